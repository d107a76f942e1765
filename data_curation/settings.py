"""What decides what comes out of an input: the stages in their order, and the settings of each."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

from data_curation.stages.annotate import AnnotateSettings
from data_curation.stages.base import Stage, StageSettings
from data_curation.stages.camera import CameraSettings
from data_curation.stages.caption import CaptionSettings
from data_curation.stages.deduplicate import DeduplicateSettings
from data_curation.stages.embed import EmbedSettings
from data_curation.stages.embed_text import EmbedTextSettings
from data_curation.stages.motion import MotionSettings
from data_curation.stages.probe import ProbeSettings
from data_curation.stages.split import SplitSettings
from data_curation.stages.text_overlay import TextOverlaySettings
from data_curation.stages.transcode import TranscodeSettings
from data_curation.stages.video_type import VideoTypeSettings
from data_curation.stages.visual_quality import VisualQualitySettings
from data_curation.store import ClipStore
from nemo_cosmos.data.shards.layout import MAX_SHARD_BYTES
from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.video import BACKENDS


@dataclass(frozen=True)
class CurateSettings:
    """One field for each stage, in the order in which clips pass them; then those of the run.

    Attributes:
        skip: names of optional stages to leave out.
        decoder: of :data:`nemo_cosmos.video.BACKENDS` where it knows a format, or ``auto``: DALI
            where a stage has a GPU, else PyAV. Their frames differ by the rounding of colours.
        max_shard_bytes: size of a tar.

    Raises:
        ConfigError: a stage that is to be skipped is not optional, or there is no such decoder.
    """

    probe: ProbeSettings = field(default_factory=ProbeSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    transcode: TranscodeSettings = field(default_factory=TranscodeSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    camera: CameraSettings = field(default_factory=CameraSettings)
    visual_quality: VisualQualitySettings = field(default_factory=VisualQualitySettings)
    text_overlay: TextOverlaySettings = field(default_factory=TextOverlaySettings)
    caption: CaptionSettings = field(default_factory=CaptionSettings)
    embed: EmbedSettings = field(default_factory=EmbedSettings)
    deduplicate: DeduplicateSettings = field(default_factory=DeduplicateSettings)
    video_type: VideoTypeSettings = field(default_factory=VideoTypeSettings)
    annotate: AnnotateSettings = field(default_factory=AnnotateSettings)
    embed_text: EmbedTextSettings = field(default_factory=EmbedTextSettings)
    skip: tuple[str, ...] = ()
    decoder: str = "auto"
    max_shard_bytes: int = MAX_SHARD_BYTES

    def __post_init__(self) -> None:
        """Check the names of the decoder and of stages that are to be left out."""
        if self.decoder != "auto" and self.decoder not in BACKENDS:
            raise ConfigError(
                f"There is no decoder '{self.decoder}'; expected 'auto', or one of "
                f"{nearest_names(self.decoder, BACKENDS)}."
            )
        for name in self.skip:
            if name not in OPTIONAL_STAGES:
                raise ConfigError(
                    f"The stage '{name}' cannot be skipped. Those that can are "
                    f"{nearest_names(name, OPTIONAL_STAGES)}."
                )

    def build_stages(self, store: ClipStore) -> list[Stage]:
        """The stages in order, without those that are skipped.

        *video_type* is told what *embed* works with, and asks whom *annotate* asks.
        """
        vlm = self.video_type.vlm if self.video_type.vlm.url else self.annotate
        typed = replace(self.video_type, vlm=vlm, embedder=self.embed.model)
        run = replace(self, video_type=typed)
        values = [getattr(run, item.name) for item in fields(run) if item.name not in run.skip]
        return [value.build(store) for value in values if isinstance(value, StageSettings)]


#: Stages that a run may leave out.
OPTIONAL_STAGES = tuple(
    item.name for item in fields(CurateSettings) if getattr(item.default_factory, "optional", False)
)
