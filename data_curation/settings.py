"""What decides the results of a run: the stages in their order, and the settings of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_type_hints

from data_curation.stages.base import Stage, StageSettings
from data_curation.stages.camera import CameraSettings
from data_curation.stages.caption import CaptionSettings
from data_curation.stages.deduplicate import DeduplicateSettings
from data_curation.stages.embed import EmbedSettings
from data_curation.stages.embed_text import EmbedTextSettings
from data_curation.stages.motion import MotionSettings
from data_curation.stages.plugins import in_order, installed_stages
from data_curation.stages.probe import ProbeSettings
from data_curation.stages.split import SplitSettings
from data_curation.stages.text_overlay import TextOverlaySettings
from data_curation.stages.transcode import TranscodeSettings
from data_curation.stages.video_type import VideoTypeSettings
from data_curation.stages.visual_quality import VisualQualitySettings
from data_curation.stages.words import WordsSettings
from data_curation.store import ClipStore
from nemo_cosmos.data.shards.layout import MAX_SHARD_BYTES
from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.video import BACKENDS


def _installed_defaults() -> dict[str, StageSettings]:
    return {name: kind() for name, kind in installed_stages().items()}


@dataclass(frozen=True)
class CurateSettings:
    """One field for each of our stages, in the order in which clips pass them; then the run's own.

    Attributes:
        added: settings of stages that other packages add, by name; by default those of all that
            are installed.
        skip: names of optional stages to leave out.
        decoder: one of :data:`nemo_cosmos.video.BACKENDS` for the formats that it knows, or
            ``auto``: DALI where a stage has a GPU, else PyAV. Their frames differ by the rounding
            of colours.
        max_shard_bytes: size of a tar.
        videos_only: whether to take the videos of a robot data set without its actions.

    Raises:
        ConfigError: a stage to skip is not optional, there is no such decoder, or an added stage
            has no place.
    """

    probe: ProbeSettings = field(default_factory=ProbeSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    transcode: TranscodeSettings = field(default_factory=TranscodeSettings)
    camera: CameraSettings = field(default_factory=CameraSettings)
    visual_quality: VisualQualitySettings = field(default_factory=VisualQualitySettings)
    text_overlay: TextOverlaySettings = field(default_factory=TextOverlaySettings)
    words: WordsSettings = field(default_factory=WordsSettings)
    embed: EmbedSettings = field(default_factory=EmbedSettings)
    deduplicate: DeduplicateSettings = field(default_factory=DeduplicateSettings)
    video_type: VideoTypeSettings = field(default_factory=VideoTypeSettings)
    caption: CaptionSettings = field(default_factory=CaptionSettings)
    embed_text: EmbedTextSettings = field(default_factory=EmbedTextSettings)
    added: Mapping[str, StageSettings] = field(default_factory=_installed_defaults)
    skip: tuple[str, ...] = ()
    decoder: str = "auto"
    max_shard_bytes: int = MAX_SHARD_BYTES
    videos_only: bool = False

    def __post_init__(self) -> None:
        """Check the names of the decoder and of the stages to skip."""
        if self.decoder != "auto" and self.decoder not in BACKENDS:
            raise ConfigError(
                f"There is no decoder '{self.decoder}'; expected 'auto', or one of "
                f"{nearest_names(self.decoder, BACKENDS)}."
            )
        optional = [name for name, chosen in self.by_stage().items() if chosen.optional]
        for name in self.skip:
            if name not in optional:
                raise ConfigError(
                    f"The stage '{name}' cannot be skipped. Those that can are "
                    f"{nearest_names(name, optional)}."
                )

    @classmethod
    def stage_kinds(cls) -> dict[str, type[StageSettings]]:
        """Settings class of every stage, of ours and of installed packages, in order.

        Raises:
            ConfigError: an installed package adds a stage that cannot be used.
        """
        own, added = _own_kinds(cls), installed_stages()
        kinds = {**own, **added}
        return {name: kinds[name] for name in in_order(list(own), added)}

    @classmethod
    def of_stages(cls, chosen: Mapping[str, StageSettings], **run: Any) -> CurateSettings:
        """Settings from those of some stages by name, ours or added, and the run's own fields."""
        own = _own_kinds(cls)
        added = {name: each for name, each in chosen.items() if name not in own}
        ours: dict[str, Any] = {name: each for name, each in chosen.items() if name in own}
        return cls(**ours, added={**_installed_defaults(), **added}, **run)

    def by_stage(self) -> dict[str, StageSettings]:
        """Settings by name of the stage, in the order in which clips pass them."""
        own = {name: getattr(self, name) for name in _own_kinds(type(self))}
        every = {**own, **self.added}
        order = in_order(list(own), {name: type(each) for name, each in self.added.items()})
        return {name: every[name] for name in order}

    def to_json(self) -> dict[str, object]:
        """Settings by stage, then those of the run, as ``summary.json`` records them."""
        stages = {
            name: asdict(each)  # type: ignore[call-overload]  # subclasses are dataclasses
            for name, each in self.by_stage().items()
        }
        names = ("skip", "decoder", "max_shard_bytes", "videos_only")
        return {**stages, **{name: getattr(self, name) for name in names}}

    def build_stages(self, store: ClipStore) -> list[Stage]:
        """The stages in order, without those that are skipped.

        *video_type* gets the model of *embed*, and by default asks the model of *caption*.
        """
        vlm = self.video_type.vlm if self.video_type.vlm.url else self.caption
        typed = replace(self.video_type, vlm=vlm, embedder=self.embed.model)
        run = replace(self, video_type=typed)
        return [each.build(store) for name, each in run.by_stage().items() if name not in run.skip]


def _own_kinds(settings: type[CurateSettings]) -> dict[str, type[StageSettings]]:
    """Settings classes of the stages that are fields."""
    hints = get_type_hints(settings)
    kinds = {item.name: hints[item.name] for item in fields(settings)}
    return {
        name: kind
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, StageSettings)
    }


def optional_stages() -> tuple[str, ...]:
    """Names of all stages that a run may skip, including those of installed packages."""
    return tuple(name for name, kind in CurateSettings.stage_kinds().items() if kind.optional)


#: Our own stages that a run may skip.
OPTIONAL_STAGES = tuple(name for name, kind in _own_kinds(CurateSettings).items() if kind.optional)
