"""Probe: find out what a file is and whether it can be read; copy one in a bucket here first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.frames import index_source
from data_curation.sources.files import fetch
from data_curation.stages.base import ClipStage, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.errors import ConfigError, MissingFileError, VideoError
from nemo_cosmos.options import option
from nemo_cosmos.video import VideoInfo
from nemo_cosmos.video.index.probe import declared_s

#: How much is read at either end of a file to find out why it cannot be decoded.
_LOOK_BYTES = 4 * 1024 * 1024
_STILL_CODECS = frozenset(("png", "mjpeg", "webp", "bmp", "tiff", "gif"))


@dataclass(frozen=True)
class ProbeSettings(StageSettings):
    """Sizes that are worth working on.

    Attributes:
        min_side_px: sources with a smaller side are rejected as ``too_small``.
        max_side_px: sources with a larger side are rejected as ``too_large``.

    Raises:
        ConfigError: the least is more than the most.
    """

    min_side_px: int = option(16, "Sources with a smaller side, in pixels, are rejected.", least=1)
    max_side_px: int = option(8192, "Sources with a larger side, in pixels, are rejected.", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_side_px > self.max_side_px:
            raise ConfigError(
                f"Sides cannot be {self.min_side_px} to {self.max_side_px} pixels long; expected a "
                "most side that is not below the least."
            )

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return ProbeStage(self)


class ProbeStage(ClipStage):
    """Reads the packets of a source; rejects what is no readable video of a sensible size."""

    name = "probe"
    outputs = ("info",)
    resources = Resources(cpus=0.5)
    version = 3

    def __init__(self, settings: ProbeSettings | None = None) -> None:
        self.settings = settings or ProbeSettings()

    def process(self, clip: Clip) -> Result:
        """Probe one source."""
        try:
            fetch(clip)
            info = index_source(clip.source).info
        except MissingFileError as error:
            return Rejection.of(clip, self.name, "unreadable", str(error))
        except VideoError as error:
            lost = replace(clip, span_s=(0.0, declared_s(clip.source)))
            if is_encrypted(clip.source):
                detail = "its samples are encrypted (Common Encryption). Decrypt it first."
                return Rejection.of(lost, self.name, "encrypted", detail)
            return Rejection.of(lost, self.name, "not_a_video", str(error))
        clip = replace(clip, info=info)
        fault = self._fault(info)
        return Rejection.of(clip, self.name, *fault) if fault else clip

    def _fault(self, info: VideoInfo) -> tuple[str, str] | None:
        """Reason and detail why a readable source is not worth working on; None where it is."""
        if info.num_frames == 1 and info.codec in _STILL_CODECS:
            return "still_image", f"a single picture ({info.codec}), expected a video"
        if info.scan == "unsure":
            return "interlaced", (
                "its frames are combed, but which field comes first cannot be told. Deinterlace it "
                "first, for example with 'ffmpeg -i IN -vf bwdif=deint=all OUT'."
            )
        small, large = sorted((info.height, info.width))
        size, settings = f"{info.width}x{info.height} pixels", self.settings
        if small < settings.min_side_px:
            return "too_small", f"{size}, expected sides of at least {settings.min_side_px}"
        if large > settings.max_side_px:
            return "too_large", f"{size}, expected sides of at most {settings.max_side_px}"
        return None


def is_encrypted(path: Path) -> bool:
    """Whether an mp4 names encrypted samples (ISO/IEC 23001-7: an ``encv`` entry with ``sinf``)."""
    with path.open("rb") as handle:
        head = handle.read(_LOOK_BYTES)
        handle.seek(max(path.stat().st_size - _LOOK_BYTES, 0))
        content = head + handle.read()
    return b"encv" in content and b"sinf" in content
