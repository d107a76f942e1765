"""Blur, exposure, blockiness and bars of single frames."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

#: Length of the second blur of the blur measure, and the grid of block codecs, in pixels.
_REBLUR_PX, _BLOCK_PX = 11, 8
#: A bar is darker than this and has no more texture than this, in levels of 255.
_BAR_LUMA, _BAR_CONTRAST = 32, 4.0
#: Luma at and below which a pixel is black, and from which it is white.
_BLACK, _WHITE = 12, 250


def blurriness(luma_HW: NDArray[np.uint8]) -> float:
    """How little a second blur changes the picture, 0 sharp to 1 blurred.

    Crete, Dolmiere, Ladret and Nicolas, "The blur effect: perception and estimation with a new
    no-reference perceptual blur metric" (SPIE 2007).
    """
    picture = luma_HW.astype(np.float32) / 255
    values = []
    for axis in (0, 1):
        size = (1, _REBLUR_PX) if axis == 0 else (_REBLUR_PX, 1)
        reblurred = cv2.blur(picture, size, borderType=cv2.BORDER_REFLECT)
        order = (0, 1) if axis == 0 else (1, 0)
        sharp, soft = (
            np.abs(cv2.Sobel(image, cv2.CV_32F, *order, borderType=cv2.BORDER_REFLECT))
            for image in (picture, reblurred)
        )
        inside = (slice(2, -1), slice(2, -1))
        total = float(sharp[inside].sum())
        lost = float(np.maximum(sharp - soft, 0)[inside].sum())
        values.append(abs(total - lost) / total if total > 0 else 1.0)
    return max(values)


def exposure(luma_HW: NDArray[np.uint8]) -> tuple[float, float]:
    """Shares of the picture that are black and that are white."""
    return float((luma_HW <= _BLACK).mean()), float((luma_HW >= _WHITE).mean())


def blockiness(luma_HW: NDArray[np.uint8]) -> float:
    """How much larger steps are on the grid of 8 x 8 blocks than beside it; about 0 without blocks.

    The grid may begin anywhere, as it does after cropping.
    """
    values = []
    for picture in (luma_HW, luma_HW.T):
        step_W = np.abs(np.diff(picture.astype(np.float32), axis=1)).mean(axis=0)
        count = len(step_W) // _BLOCK_PX
        if count < 2:
            return 0.0
        step_P = step_W[: count * _BLOCK_PX].reshape(count, _BLOCK_PX).mean(axis=0)
        place = int(step_P.argmax())
        beside = np.delete(step_P, place).mean()
        # Half a level, so that a flat picture with a little noise is not blocky.
        values.append(float((step_P[place] - beside) / (beside + 0.5)))
    return min(values)


def find_bars(luma_THW: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Rows and columns of black bars in all frames: top, bottom, left, right."""
    brightest_HW = luma_THW.max(axis=0).astype(np.float32)
    counts = []
    for picture in (brightest_HW, brightest_HW.T):
        is_bar = (picture.mean(axis=1) < _BAR_LUMA) & (picture.std(axis=1) < _BAR_CONTRAST)
        if is_bar.all():
            return 0, 0, 0, 0  # a black clip has no bars; its exposure says so
        counts += [int(np.argmin(is_bar)), int(np.argmin(is_bar[::-1]))]
    return counts[0], counts[1], counts[2], counts[3]
