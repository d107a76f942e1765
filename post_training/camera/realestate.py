"""Read RealEstate10K: a text file for each clip, whose pictures are a person's own download.

The first line is the video's address, which some copies leave out. Each further line is a frame:
its time in microseconds, the focal lengths and the middle of the picture in its width and height
(fx fy cx cy), two zeros, and the twelve numbers of a world-to-camera matrix with OpenCV's axes.
Positions have no unit.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    if first.startswith("http"):  # a damaged first row is named, not overlooked
        return not second.strip() or second.split()[0].isdigit()
    return _is_row(first)


def _is_row(line: str) -> bool:
    """Whether a line has the columns of a frame."""
    words = line.split()
    return len(words) == _COLUMNS and words[0].isdigit()


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
    has_address = not (lines and _is_row(lines[0]))
    for number, line in enumerate(lines, 1):
        if not line.strip() or (has_address and number == 1):
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
        fps=_rate(np.array(times), [shot.row for shot in shots], file),
        is_scaled_freely=True,
        notes={"video": lines[0].strip()} if has_address else {},
    )


def _picture(folder: Path, time: str, where: str) -> Path:
    for ending in sorted(PICTURES):
        if (file := folder / f"{time}{ending}").is_file():
            return file
    raise MissingFileError(f"{where} is of the time {time}, but '{folder}' has no such picture.")


def _rate(times_s: np.ndarray, rows: Sequence[str], file: Path) -> float:
    """Frames a second, which must be even.

    Args:
        times_s: when each frame is shown.
        rows: where each stands in the file, for messages.
        file: the file, for messages.
    """
    gaps_s = np.diff(times_s)
    usual_s = float(np.median(gaps_s))
    for before, row, gap_s in zip(rows, rows[1:], gaps_s, strict=False):
        if gap_s <= 0:
            raise SampleError(
                f"'{file}', {row} has a time that is not after that of {before}. Expected "
                "microseconds that rise from line to line; sort the lines by them."
            )
    bad = np.flatnonzero(~(np.abs(gaps_s - usual_s) <= _UNEVEN * usual_s))
    if len(bad):
        late = int(bad[0])
        raise SampleError(
            f"'{file}', {rows[late + 1]} is {gaps_s[late]:g} s after the line before, where "
            f"{usual_s:g} s are usual. Expected frames at an even rate; split the clip there."
        )
    return 1 / usual_s
