"""Resize frames, and fit them into a bucket with reflection padding and a mask."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import WrongSizeError


def resize_frame(frame_HWC: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize one picture to ``(height, width)``: area averaging down, cubic up."""
    height, width = size
    if height < 1 or width < 1:
        raise WrongSizeError(
            f"The size {height}x{width} (height x width) contains no pixel; expected two positive "
            "numbers."
        )
    if frame_HWC.shape[:2] == (height, width):
        return frame_HWC
    shrinks = height * width < frame_HWC.shape[0] * frame_HWC.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    resized = cv2.resize(np.ascontiguousarray(frame_HWC), (width, height), interpolation=method)
    return cast("NDArray[np.uint8]", resized)


def resize_frames(frames_THWC: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize every frame to ``(height, width)``, aspect not kept; ``(T, height, width, 3)``."""
    if frames_THWC.shape[1:3] == size:
        return frames_THWC
    return np.stack([resize_frame(frame_HWC, size) for frame_HWC in frames_THWC])


def resize_longest_side(frames_THWC: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    """Resize so that the longer side has ``longest_px`` pixels, aspect kept."""
    height, width = frames_THWC.shape[1:3]
    scale = longest_px / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return resize_frames(frames_THWC, size)


def fitted_size(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """Largest ``(height, width)`` of the same aspect that fits into ``size``."""
    scale = min(size[0] / height, size[1] / width)
    return (
        min(size[0], max(1, round(height * scale))),
        min(size[1], max(1, round(width * scale))),
    )


def resize_and_pad(
    frames_THWC: NDArray[np.uint8], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Fit frames into ``(height, width)``, aspect kept, and fill the rest by reflection.

    The picture is in the middle. Where the rest is wider than the picture, the reflection is
    reflected again.

    Returns:
        ``(frames_THWC, padding_mask_HW)``; the mask is uint8, 0 on the picture and 1 on padding.
    """
    height, width = size
    inner_height, inner_width = fitted_size(frames_THWC.shape[1], frames_THWC.shape[2], size)
    inner = resize_frames(frames_THWC, (inner_height, inner_width))
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    rows = (top, height - inner_height - top)
    columns = (left, width - inner_width - left)
    mask_HW = np.ones((height, width), dtype=np.uint8)
    mask_HW[top : top + inner_height, left : left + inner_width] = 0
    padded = np.pad(inner, ((0, 0), rows, columns, (0, 0)), mode="symmetric")
    return padded, mask_HW


def covering_size(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """Smallest ``(height, width)`` of the same aspect that covers ``size``."""
    scale = max(size[0] / height, size[1] / width)
    return max(size[0], round(height * scale)), max(size[1], round(width * scale))


def center_crop(frames_THWC: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Fill ``(height, width)`` with the frames, aspect kept, and cut off what lies outside."""
    height, width = size
    outer_height, outer_width = covering_size(frames_THWC.shape[1], frames_THWC.shape[2], size)
    outer = resize_frames(frames_THWC, (outer_height, outer_width))
    top, left = (outer_height - height) // 2, (outer_width - width) // 2
    return outer[:, top : top + height, left : left + width]
