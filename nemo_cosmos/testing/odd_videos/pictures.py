"""Pictures that bear a number, so that it shows which one of them came out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
SIZE = (64, 96)
BITS = 6
#: The lower half of a picture: three fields of colour, in another order in each scene.
COLOURS = ((200, 60, 50), (60, 170, 80), (50, 70, 190))


def numbered(number: int, size: tuple[int, int] = SIZE, scene: int = 0) -> Picture:
    """An RGB picture ``(H, W, 3)`` with a number from 0 to 63.

    In its upper quarter are six black or white cells, of which one changes from number to number;
    below them a bar moves to the right, and the lower half is :data:`COLOURS`.

    Args:
        number: the number.
        size: height and width.
        scene: which pictures belong to one shot.
    """
    height, width = size
    picture = np.full((height, width, 3), (90, 90 + 60 * (scene % 2), 90), dtype=np.uint8)
    code = number ^ number >> 1  # Gray's: one bit from each number to the next
    for bit in range(BITS):
        columns = slice(bit * width // BITS, (bit + 1) * width // BITS)
        picture[: height // 4, columns] = 235 if code >> bit & 1 else 20
    place = 2 * number * width // SIZE[1] % (width - width // 8)
    picture[height // 4 : height // 2, place : place + width // 8] = (240, 220, 60)
    for field in range(3):
        columns = slice(field * width // 3, (field + 1) * width // 3)
        picture[height // 2 :, columns] = COLOURS[(field + scene) % 3]
    return picture


def number_of(picture_HWC: Picture) -> int:
    """The number that a picture bears."""
    height, width = picture_HWC.shape[:2]
    rows = slice(height // 16, max(height // 16 + 1, 3 * height // 16))
    code = 0
    for bit in range(BITS):
        centre = (2 * bit + 1) * width // (2 * BITS)
        cell = picture_HWC[rows, max(0, centre - width // 32) : centre + width // 32 + 1]
        code |= int(cell.mean() > 127) << bit
    number = 0
    while code:
        number ^= code
        code >>= 1
    return number


def colour_error(picture_HWC: Picture, scene: int = 0) -> float:
    """How far the fields of colour are off, in levels of 255; the largest of the three."""
    height, width = picture_HWC.shape[:2]
    rows = slice(5 * height // 8, 7 * height // 8)
    errors = []
    for field in range(3):
        centre = (2 * field + 1) * width // 6
        seen = picture_HWC[rows, centre - width // 16 : centre + width // 16].mean(axis=(0, 1))
        errors.append(np.abs(seen - np.array(COLOURS[(field + scene) % 3])).max())
    return float(max(errors))
