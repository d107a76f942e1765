"""Sort clips into buckets of one length and one size, since a batch is one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.batch import DEFAULT_VIEWS, Views
from nemo_cosmos.errors import WrongFrameCountError, WrongSizeError

Size = tuple[int, int]
"""``(height, width)`` in pixels."""
Box = tuple[int, int, int, int]
"""``(top, left, bottom, right)`` in pixels; bottom and right are exclusive."""


@dataclass(frozen=True, order=True)
class Bucket:
    """Length and size that all samples of a batch share.

    Attributes:
        num_frames: pixel frames; 1 is an image.
        height: height in pixels.
        width: width in pixels.
        views: names of the cameras.
    """

    num_frames: int
    height: int
    width: int
    views: Views = DEFAULT_VIEWS

    def __repr__(self) -> str:
        """Name what differs from the usual; fingerprints of orders are digests of this text."""
        size = f"num_frames={self.num_frames}, height={self.height}, width={self.width}"
        views = "" if self.views == DEFAULT_VIEWS else f", views={self.views}"
        return f"Bucket({size}{views})"


ANY_SHAPE = Bucket(0, 0, 0)
"""The one bucket of all packed samples."""


def nearest_size(height: int, width: int, sizes: Sequence[Size]) -> Size:
    """Return the size of the closest aspect ratio; among equals, of the closest area.

    Raises:
        WrongSizeError: ``sizes`` is empty.
    """
    if not sizes:
        raise WrongSizeError("There is no bucket size; expected at least one (height, width).")

    def distance(size: Size) -> tuple[float, float]:
        aspect = abs(np.log((size[1] / size[0]) / (width / height)))
        area = abs(np.log((size[0] * size[1]) / (height * width)))
        return round(float(aspect), 6), float(area)

    return min(sizes, key=distance)


def longest_fit(num_frames: int, lengths: Sequence[int]) -> int | None:
    """Return the longest length that a clip fills; ``None`` if it is too short for all.

    Raises:
        WrongFrameCountError: ``lengths`` is empty, or one is not positive.
    """
    if not lengths or min(lengths) < 1:
        raise WrongFrameCountError(
            f"The bucket lengths are {list(lengths)}; expected positive numbers of frames, for "
            "example [17]."
        )
    return max((length for length in lengths if length <= num_frames), default=None)


def padding_mask(size: Size, content: Box | None = None) -> NDArray[np.float32]:
    """Return the padding mask of one sample.

    Args:
        size: ``(height, width)`` of the sample in pixels.
        content: box of the picture; by default the whole sample.

    Returns:
        ``(1, height, width)`` float32: 0 where the picture is, 1 on padding.
    """
    height, width = size
    mask = np.ones((1, height, width), dtype=np.float32)
    top, left, bottom, right = content or (0, 0, height, width)
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise WrongSizeError(
            f"The picture box {content} (top, left, bottom, right) does not lie inside "
            f"{height}x{width} pixels. Tokenize the clip again."
        )
    mask[:, top:bottom, left:right] = 0
    return mask


def content_box(mask_HW: NDArray[np.uint8]) -> Box:
    """Return the box that a mask of :func:`nemo_cosmos.video.resize_and_pad` leaves free."""
    rows, columns = np.flatnonzero((mask_HW == 0).any(1)), np.flatnonzero((mask_HW == 0).any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
