"""Read a generated video and the true one from files, with their cameras and signals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nemo_cosmos.controls import Values, fit_recorded
from nemo_cosmos.errors import VideoError
from nemo_cosmos.evaluation.files.recorded import files_beside, read_recorded, recorded_needs
from nemo_cosmos.evaluation.files.views import check_view_files, view_files
from nemo_cosmos.evaluation.metric import Case, Frames, Metric, View
from nemo_cosmos.evaluation.run import Source
from nemo_cosmos.options import Range, check_value
from nemo_cosmos.storage.ranges import stamp_or_none
from nemo_cosmos.video import decode, probe, resize_frames


@dataclass(frozen=True)
class Alignment:
    """How two videos are made comparable before any metric sees them.

    Attributes:
        skip_frames: the number of first frames that are left out, such as those that were given to
            the model.
        trim: whether both are cut to the shorter one.
        resize: whether the truth is resized to the generated size.
    """

    skip_frames: int = 0
    trim: bool = False
    resize: bool = False

    def __post_init__(self) -> None:
        legal = {"skip_frames": (int, Range(least=0)), "trim": (bool, None), "resize": (bool, None)}
        for name, (kind, range_) in legal.items():
            object.__setattr__(self, name, check_value(name, getattr(self, name), kind, range_))


@dataclass(frozen=True)
class FilePair:
    """A generated video's file and the true one's, if there is one."""

    generated: Path
    truth: Path | None

    @property
    def files(self) -> list[Path]:
        """Both files, or the one."""
        return [file for file in (self.generated, self.truth) if file is not None]

    def views(self) -> dict[str, FilePair]:
        """The files of further cameras by the camera's name."""
        truth = view_files(self.truth) if self.truth is not None else {}
        return {
            name: FilePair(file, truth.get(name))
            for name, file in view_files(self.generated).items()
        }


def read_pair(pair: FilePair, alignment: Alignment) -> tuple[Frames, Frames | None]:
    """The frames of both videos, aligned; None in place of a truth that is not there.

    Args:
        pair: the two files.
        alignment: how they are made comparable.

    Raises:
        VideoError: a file cannot be decoded, or no frame is left.
    """
    generated_THWC = decode(pair.generated).frames_THWC
    truth_THWC = None
    if pair.truth is not None:
        truth_THWC = decode(pair.truth, find_fields=True).frames_THWC
    num_frames = len(generated_THWC)
    if truth_THWC is not None:
        num_frames = min(num_frames, len(truth_THWC))
        if alignment.resize:
            height, width = generated_THWC.shape[1:3]
            truth_THWC = resize_frames(truth_THWC, (height, width))
        if alignment.trim:
            generated_THWC, truth_THWC = generated_THWC[:num_frames], truth_THWC[:num_frames]
    if alignment.skip_frames >= num_frames:
        raise VideoError(
            f"'{pair.generated}' has {num_frames} frames to compare, of which --skip-frames "
            f"{alignment.skip_frames} leaves none. Choose a smaller number."
        )
    rest = slice(alignment.skip_frames, None)
    return generated_THWC[rest], truth_THWC[rest] if truth_THWC is not None else None


@dataclass(frozen=True)
class FileNeeds:
    """What the metrics need besides the frames of each pair.

    Attributes:
        signals: names of signals.
        views: names of further cameras; None where no metric looks at them.
    """

    signals: tuple[str, ...]
    views: tuple[str, ...] | None

    @classmethod
    def of(cls, metrics: Iterable[Metric], pairs: Mapping[str, FilePair]) -> FileNeeds:
        """What metrics look at; all videos must have the cameras that any of them has.

        Args:
            metrics: the metrics.
            pairs: the files of each video by its name.
        """
        chosen = list(metrics)
        views = None
        if any("views" in metric.needs for metric in chosen):
            files = [file for pair in pairs.values() for file in pair.files]
            views = tuple(sorted({name for file in files for name in view_files(file)}))
        return cls(tuple(recorded_needs(chosen)), views)


def file_source(
    name: str, pair: FilePair, alignment: Alignment, prompt: str | None, needs: FileNeeds
) -> Source:
    """A pair of files with all that decides its scores besides the metrics.

    Args:
        name: the video's name.
        pair: its files.
        alignment: how they are made comparable.
        prompt: the words that it was generated from.
        needs: what else the metrics look at.
    """
    views = pair.views() if needs.views is not None else {}
    files = [
        file
        for one in (pair, *views.values())
        for file in (*one.files, *files_beside(one.files[-1], needs.signals))
    ]
    about = [name, [stamp_or_none(file) for file in files], asdict(alignment), prompt]

    def read() -> Case:
        if needs.views is not None:
            check_view_files(pair.generated, view_files(pair.generated), needs.views)
        cameras = [pair, *views.values()]
        frames = [read_pair(one, alignment) for one in cameras]
        if alignment.trim:
            num_frames = min(len(generated_THWC) for generated_THWC, _ in frames)
            frames = [
                (both[0][:num_frames], None if both[1] is None else both[1][:num_frames])
                for both in frames
            ]
        main, *further = (
            View(*both, _recorded(one, both[0], alignment, needs.signals))
            for one, both in zip(cameras, frames, strict=True)
        )
        return Case(
            name,
            main.generated_THWC,
            main.truth_THWC,
            prompt,
            recorded=main.recorded,
            views=dict(zip(views, further, strict=True)),
        )

    return Source(about, read)


def _recorded(
    pair: FilePair, generated_THWC: Frames, alignment: Alignment, signals: Sequence[str]
) -> dict[str, Values]:
    """The signals beside the true video, or beside the generated one where it stands alone."""
    video = pair.files[-1]
    beside = files_beside(video, signals)
    if not beside:
        return {}
    by_suffix = {file.name.removeprefix(f"{video.stem}."): file.read_bytes() for file in beside}
    recorded = read_recorded(
        signals,
        by_suffix.get,
        probe(video).num_frames,
        alignment.skip_frames,
        len(generated_THWC),
        str(video),
    )
    return fit_recorded(recorded, generated_THWC.shape[1:3])
