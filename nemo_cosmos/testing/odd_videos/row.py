"""One odd video: how it is written, and what a player shows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: What most rows show: a second of 24 pictures.
NUM_PICTURES, RATE = 24, 24


@dataclass(frozen=True)
class OddVideo:
    """A row of the table.

    Attributes:
        name: name of the file.
        about: what is odd about it, in a few words.
        write: writes it to a path.
        numbers: the numbers that the pictures bear which can be used, in the order shown.
        seconds: length of the whole, in presentation time.
        size: ``(height, width)`` of the pictures shown.
        lost_s: seconds that no clip may contain, by the reason that curation gives.
        as_ffmpeg: whether FFmpeg shows these very pictures, at the same times, and no others.
        colour_levels: how far colours may be off, of 255; 0 where they are not compared.
        rejected: the reason for which curation takes nothing of it; empty where it takes some.
    """

    name: str
    about: str
    write: Callable[[Path], object]
    numbers: Sequence[int] = tuple(range(NUM_PICTURES))
    seconds: float = 1.0
    size: tuple[int, int] = (64, 96)
    lost_s: Mapping[str, float] = field(default_factory=dict)
    as_ffmpeg: bool = True
    colour_levels: int = 14
    rejected: str = ""
