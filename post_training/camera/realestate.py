"""Read RealEstate10K: a text file for each clip, whose pictures are a person's own download.

The first line is the video's address. Each further line is a frame: its time in microseconds, the
focal lengths and the middle of the picture in its width and height (fx fy cx cy), two zeros, and
the twelve numbers of a world-to-camera matrix with OpenCV's axes. Positions have no unit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nemo_cosmos.errors import MissingFileError, SampleError
from post_training.camera.scenes import PICTURES, Lens, Scene, Shot, checked_pose, finite, inverted

_COLUMNS = 19
_UNEVEN = 0.5
"""How far a gap between two frames may be from the usual one, in gaps."""


def looks_like_realestate(file: Path) -> bool:
    """Whether a text file begins as RealEstate10K's do."""
    try:
        with file.open(encoding="utf-8") as lines:
            first, second = lines.readline(), lines.readline()
    except (OSError, UnicodeDecodeError):
        return False
    return first.startswith("http") and len(second.split()) == _COLUMNS


def read_realestate(file: Path, pictures: Path | None = None) -> Scene:
    """Read a clip as a scene.

    Args:
        file: the clip's text.
        pictures: the folder with ``CLIP.mp4``, or with the folder ``CLIP`` of pictures that are
            named by their time; by default that of the text.

    Raises:
        MissingFileError: there is neither, or a picture is missing.
        SampleError: a line is damaged.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SampleError(f"'{file}' is no text ({error}).") from error
    root = pictures or file.parent
    folder, video = root / file.stem, root / f"{file.stem}.mp4"
    if not folder.is_dir() and not video.is_file():
        raise MissingFileError(
            f"There is neither the video '{video}' nor the folder '{folder}' of pictures, which "
            "RealEstate10K does not ship. Download them, and name where they are: --images FOLDER."
        )
    is_video = not folder.is_dir()
    shots, times = [], []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        where, words = f"'{file}', line {number}", line.split()
        if len(words) != _COLUMNS:
            raise SampleError(
                f"{where} has {len(words)} columns; expected {_COLUMNS}: a time, fx fy cx cy, two "
                "zeros, and the 12 numbers of a world-to-camera matrix."
            )
        time_us, fx, fy, cx, cy, k1, k2, *matrix = (
            finite(word, where, "a number") for word in words
        )
        if max(fx, fy, cx, cy) > 10 or min(fx, fy) <= 0:
            raise SampleError(
                f"{where} has fx fy cx cy of {fx:g} {fy:g} {cx:g} {cy:g}; expected them in widths "
                "and heights of the picture, about 0.5 to 2. Divide those in pixels by its size."
            )
        pose_44 = inverted(checked_pose(np.reshape(matrix, (3, 4)), where))
        picture = None if is_video else _picture(folder, words[0], where)
        # In pictures of one by one; whoever reads the picture knows its pixels.
        lens = Lens.pinhole((fx, fy), (cx, cy), (1.0, 1.0), (k1, k2))
        times.append(time_us / 1e6)
        shots.append(Shot(f"line {number}", pose_44, lens, picture, time_us / 1e6))
    if len(shots) < 2:
        raise SampleError(f"'{file}' has {len(shots)} frames; a path has at least two.")
    return Scene(
        file.stem,
        file,
        "realestate10k",
        "opencv",
        shots,
        video=video if is_video else None,
        fps=_rate(np.array(times), file),
        is_scaled_freely=True,
        notes={"video": lines[0].strip()},
    )


def _picture(folder: Path, time: str, where: str) -> Path:
    for ending in sorted(PICTURES):
        if (file := folder / f"{time}{ending}").is_file():
            return file
    raise MissingFileError(f"{where} is of the time {time}, but '{folder}' has no such picture.")


def _rate(times_s: np.ndarray, file: Path) -> float:
    """Frames a second, which must be even."""
    gaps_s = np.diff(times_s)
    usual_s = float(np.median(gaps_s))
    bad = np.flatnonzero(~(np.abs(gaps_s - usual_s) <= _UNEVEN * usual_s))
    if usual_s <= 0 or len(bad):
        row = int(bad[0]) + 3 if len(bad) else 3
        raise SampleError(
            f"'{file}', line {row} is {gaps_s[row - 3]:g} s after the line before, where "
            f"{usual_s:g} s are usual. Expected frames at an even rate; split the clip there."
        )
    return 1 / usual_s
