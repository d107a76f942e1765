"""The files beside a raw video: ``name.json`` with words, ``name.action.npy`` and other arrays.

::

    episode.mp4            T frames
    episode.json           {"caption": ..., "language": ..., anything else}
    episode.action.npy     (T-1, 7): row t moves frame t to frame t+1
    episode.camera.npz     several arrays, some with a row for each frame

All arrays are carried along and cut with the clip. The signal's declaration says what a row means
(:mod:`nemo_cosmos.controls`). Arrays that nobody has declared count by their rows: T rows are one
for each frame, T-1 rows one for each step, and any other number (lens constants, say) holds for the
whole clip.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from nemo_cosmos.controls import (
    TimeAxes,
    decode_arrays,
    encode_arrays,
    infer_signal,
    known_signal,
    undeclared_axes,
)
from nemo_cosmos.errors import SampleError


def read_words(video: Path) -> dict[str, object]:
    """Return the sidecar JSON of a video; empty if there is none.

    Raises:
        SampleError: it is not a JSON object.
    """
    path = video.with_suffix(".json")
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SampleError(
            f"The sidecar '{path}' cannot be parsed as JSON: {error}. Repair or delete it."
        ) from error
    if not isinstance(content, dict):
        raise SampleError(
            f"The sidecar '{path}' holds a {type(content).__name__}; expected an object with "
            "'caption' or 'language'. Repair or delete it."
        )
    return content


def stem_of_array(name: str) -> str:
    """Return the stem of the video that an array belongs to; empty if it belongs to none.

    One word separates the stem from the ending: ``a.1.action.npy`` belongs to ``a.1.mp4``, not
    to ``a.mp4``.
    """
    found = re.fullmatch(r"(.+)\.[A-Za-z0-9_-]+\.np[yz]", name, re.DOTALL)
    return found[1] if found else ""


def cut_arrays(
    arrays: Sequence[Path], num_frames: int, start: int, end: int
) -> tuple[dict[str, bytes], dict[str, TimeAxes]]:
    """Cut the array sidecars of a source to a span.

    Args:
        arrays: the files beside the source.
        num_frames: frames of the whole source.
        start: first frame of the span.
        end: frame after its last one.

    Returns:
        The files' contents by suffix (``action.npy``), and of files that hold arrays no signal
        declares, what a row of each was taken for. The sample's JSON keeps these, because a
        shorter clip no longer shows them.

    Raises:
        SampleError: an array cannot be read, or does not fit the number of frames.
        NumericsError: an array holds NaN, infinity or implausible magnitudes.
    """
    contents: dict[str, bytes] = {}
    axes: dict[str, TimeAxes] = {}
    for path in arrays:
        suffix = path.name.removeprefix(f"{stem_of_array(path.name)}.")
        where = f"the sidecar '{path}'"
        values = decode_arrays(suffix, _content(path), where)
        signal = infer_signal(suffix, values, num_frames, known_signal(suffix))
        signal.check(values, num_frames, where)
        contents[suffix] = encode_arrays(suffix, signal.cut(values, start, end - start))
        if undeclared := undeclared_axes(signal, known_signal(suffix)):
            axes[suffix] = undeclared
    return contents, axes


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SampleError(
            f"The sidecar '{path}' cannot be read: {error}. Restore or delete it."
        ) from error
