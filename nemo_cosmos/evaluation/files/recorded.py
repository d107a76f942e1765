"""Signals that were recorded with a true video, for metrics that need more than its frames.

They stand beside the video as ``{key}.{name}.npy`` or ``.npz``, the files that steer models, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import CAMERA, Values, decode_arrays, infer_signal, known_signal
from nemo_cosmos.evaluation.metric import NOT_RECORDED, Metric

_ENDINGS = (".npy", ".npz")


def recorded_needs(metrics: Iterable[Metric]) -> list[str]:
    """Names of the signals that any of the metrics needs or uses, in order of name.

    Views come with their cameras, where there are some: these say which views see the same.
    """
    needs = {need for metric in metrics for need in metric.needs | metric.uses}
    return sorted((needs | ({CAMERA.name} if "views" in needs else set())) - NOT_RECORDED)


def files_beside(video: Path, names: Iterable[str]) -> list[Path]:
    """The files of these signals that stand beside a video.

    Args:
        video: the video.
        names: names of signals.
    """
    candidates = [video.with_suffix(f".{name}{end}") for name in names for end in _ENDINGS]
    return [file for file in candidates if file.is_file()]


def signal_files(video: Path) -> list[Path]:
    """The files of all signals that stand beside a video, in order of name.

    Args:
        video: the video.
    """
    return [
        file
        for file in sorted(video.parent.iterdir())
        if file.suffix in _ENDINGS and file.stem.rpartition(".")[0] == video.stem
    ]


def read_recorded(
    names: Iterable[str],
    read: Callable[[str], bytes | None],
    num_frames: int,
    first_frame: int,
    num_kept: int,
    where: str,
) -> dict[str, Values]:
    """Read signals, check them against the whole video and cut them to a part of it.

    Args:
        names: names of signals.
        read: the content of the file with this suffix, ``"camera.npz"``; None where there is none.
        num_frames: frames of the video that the signals were recorded with.
        first_frame: first frame of the part.
        num_kept: frames of the part.
        where: the video, for messages.

    Returns:
        the arrays of each signal that is there, by its name.

    Raises:
        SampleError: a file is damaged or does not fit the video.
        NumericsError: it holds NaN, infinity or implausible magnitudes.
    """
    found: dict[str, Values] = {}
    for name in names:
        for suffix in (f"{name}{end}" for end in _ENDINGS):
            content = read(suffix)
            if content is None:
                continue
            values = decode_arrays(suffix, content, where)
            signal = infer_signal(suffix, values, num_frames, known_signal(suffix))
            signal.check(values, num_frames, where)
            found[name] = signal.cut(values, first_frame, num_kept)
            break
    return found


def cut_recorded(name: str, values: Values, num_frames: int, first_frame: int) -> dict[str, Array]:
    """The part of a signal that belongs to the last frames of a video.

    Args:
        name: the signal's name.
        values: its arrays, which fit the whole video.
        num_frames: frames of the whole video.
        first_frame: first frame of the part.
    """
    suffix = f"{name}.npy" if list(values) == [name] else f"{name}.npz"
    signal = infer_signal(suffix, values, num_frames, known_signal(suffix))
    return signal.cut(values, first_frame, num_frames - first_frame)
