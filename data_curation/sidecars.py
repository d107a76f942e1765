"""What comes beside a raw video: ``name.json`` with words, ``name.action.npy`` and other arrays.

::

    episode.mp4            T frames
    episode.json           {"caption": ..., "language": ..., anything else}
    episode.action.npy     (T-1, 7): row t leads from frame t to frame t+1
    episode.camera.npz     arrays per frame, and others

All arrays are carried along. When a clip is cut to a span, what is per frame (first dimension T) or
per step (T-1) is cut too; other arrays (lens constants, say) are kept as they are.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nemo_cosmos.errors import SampleError

#: Arrays that must have a row per frame (offset 0) or per step between frames (offset 1).
_ROWS_MISSING = {"action.npy": 1, "state.npy": 0, "trajectory.npy": 0}


def read_words(video: Path) -> dict[str, Any]:
    """The sidecar JSON of a video; empty where there is none.

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
    """The stem of the video that an array belongs to; empty where it is no array of a video.

    One word stands between the stem and the ending: ``a.1.action.npy`` belongs to ``a.1.mp4``, not
    to ``a.mp4``.
    """
    found = re.fullmatch(r"(.+)\.[A-Za-z0-9_-]+\.np[yz]", name, re.DOTALL)
    return found[1] if found else ""


def cut_arrays(arrays: Sequence[Path], num_frames: int, start: int, end: int) -> dict[str, bytes]:
    """The array sidecars of a span, as file contents by suffix (``action.npy``).

    Args:
        arrays: the files beside the source.
        num_frames: frames of the whole source.
        start: first frame of the span.
        end: frame after its last one.

    Raises:
        SampleError: an array cannot be read, or does not fit the number of frames.
    """
    return {
        path.name.removeprefix(f"{stem_of_array(path.name)}."): _cut_file(
            path, num_frames, start, end
        )
        for path in arrays
    }


def _cut_file(path: Path, num_frames: int, start: int, end: int) -> bytes:
    suffix = path.name.removeprefix(f"{stem_of_array(path.name)}.")
    buffer = io.BytesIO()
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            _check_rows(path, loaded, num_frames, _ROWS_MISSING.get(suffix))
            np.save(buffer, _cut(loaded, num_frames, start, end), allow_pickle=False)
        else:
            with loaded:
                cut = {name: _cut(loaded[name], num_frames, start, end) for name in loaded.files}
            np.savez(buffer, **cut)  # type: ignore[arg-type]  # its flag has a type too
    except (ValueError, OSError, EOFError) as error:
        if isinstance(error, SampleError):
            raise
        raise SampleError(
            f"The sidecar '{path}' cannot be read as an array of numbers: {error}. Write it with "
            "numpy.save (no objects), or delete it."
        ) from error
    return buffer.getvalue()


def _check_rows(path: Path, array: np.ndarray, num_frames: int, missing: int | None) -> None:
    """Per-frame arrays must fit the video, or their rows would belong to other frames."""
    rows = array.shape[0] if array.ndim else 0
    if missing is not None and rows != num_frames - missing:
        raise SampleError(
            f"The sidecar '{path}' has {rows} rows, the video {num_frames} frames; expected "
            f"{num_frames - missing} rows. Record both over the same time, or leave one out."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise SampleError(
            f"The sidecar '{path}' holds NaN or infinity. Leave the recording out, or repair it."
        )


def _cut(array: np.ndarray, num_frames: int, start: int, end: int) -> np.ndarray:
    rows = array.shape[0] if array.ndim else 0
    if rows == num_frames:
        return array[start:end]
    return array[start : end - 1] if rows == num_frames - 1 else array
