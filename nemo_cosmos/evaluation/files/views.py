"""Further cameras of a video: the files ``{key}.{view}.mp4`` beside ``{key}.mp4``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from nemo_cosmos.errors import VideoError, counted
from nemo_cosmos.evaluation.metric import Case
from nemo_cosmos.provenance.belonging import is_same_rate
from nemo_cosmos.video import probe

_VIEW = re.compile(r"[A-Za-z0-9_-]+")


def view_files(video: Path) -> dict[str, Path]:
    """The files of a video's further cameras by the camera's name, in order of name.

    Args:
        video: the main camera's file.
    """
    found = {}
    for file in sorted(video.parent.glob(f"{_escaped(video.stem)}.*.mp4")):
        view = file.stem.removeprefix(f"{video.stem}.")
        if _VIEW.fullmatch(view):
            found[view] = file
    return found


def without_views(videos: Iterable[Path]) -> list[Path]:
    """Those of a folder's files that are videos of their own, in the given order.

    ``a.left.mp4`` is a view where there is an ``a.mp4``; else it is a video with a point in its
    name.

    Args:
        videos: the video files of a folder.
    """
    files = list(videos)
    stems = {file.stem for file in files}
    return [file for file in files if file.stem.rpartition(".")[0] not in stems]


def check_view_files(video: Path, views: dict[str, Path], expected: Iterable[str]) -> None:
    """Refuse a video whose further cameras are not those of the others, or of another rate.

    Args:
        video: the main camera's file.
        views: the files of its further cameras.
        expected: the cameras that each video must have.

    Raises:
        VideoError: a camera is missing, or counts other times.
    """
    missing = sorted(set(expected) - set(views))
    if missing:
        raise VideoError(
            f"'{video}' has no view '{missing[0]}', which other videos or the true one have "
            f"(it has {', '.join(views) or 'none'}). Put '{video.stem}.{missing[0]}.mp4' beside "
            "it, or take that view from all."
        )
    fps = probe(video).fps
    for view, file in views.items():
        other = probe(file).fps
        if not is_same_rate(fps, other):
            raise VideoError(
                f"The view '{view}' of '{video}' has {other:g} frames/s, the video itself {fps:g}; "
                "expected one rate, since cameras must show the same moments. Resample it."
            )


def check_views(case: Case) -> None:
    """Refuse a video whose further cameras show other moments than itself.

    Args:
        case: the video.

    Raises:
        VideoError: a view has another number of frames, or another shape than its truth.
    """
    expected = len(case.generated_THWC)
    for name, view in case.views.items():
        if len(view.generated_THWC) != expected:
            raise VideoError(
                f"The view '{name}' of '{case.name}' has "
                f"{counted(len(view.generated_THWC), 'frame')}, the video itself {expected}; "
                "expected the same moments from all cameras. Cut all to the same length."
            )
        truth_THWC = view.truth_THWC
        if truth_THWC is not None and truth_THWC.shape != view.generated_THWC.shape:
            raise VideoError(
                f"The view '{name}' of '{case.name}' has the shape {view.generated_THWC.shape}, "
                f"its truth {truth_THWC.shape}; expected the same. Cut ('--trim') or resize "
                "('--resize') the truth."
            )


def _escaped(stem: str) -> str:
    """A stem in which ``glob`` finds nothing but itself."""
    return re.sub(r"([*?[])", r"[\1]", stem)
