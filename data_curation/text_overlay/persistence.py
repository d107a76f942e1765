"""Tell burnt-in text from signs in the scene: it stands still while the scene moves.

A box of text is looked at twice, half a second apart, by its edges (gradients of the luma). Text is
burnt in when the edges inside the box are where they were, and those around it are not. Where
nothing is drawn around it (a black bar, the sky), the rest of the picture decides. A sign moves
with the scene; lettering on a bus that the camera follows stands still, but so does the bus around
it. Where nothing moves at all, a caption cannot be distinguished from a sign in this way, and
counts as one.

Shape suffixes: H height, W width.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from data_curation.text_overlay.detector import TextBox

#: Correlation of edges from which on a place stands still, and up to which it moves.
STILL, MOVED = 0.7, 0.5
#: Mean gradient below which a place has no edges, in grey levels per pixel.
MIN_EDGES = 2.0
#: Width of the ring around a box, in heights of the box.
RING = 0.6


def burnt_in(
    boxes: list[TextBox], first_HWC: NDArray[np.uint8], second_HWC: NDArray[np.uint8]
) -> list[TextBox]:
    """The boxes of the first frame that are burnt in, by a second frame shortly after it."""
    if not boxes:
        return []
    height, width = first_HWC.shape[:2]
    edges = [_edges(frame) for frame in (first_HWC, second_HWC)]
    masks = [box.mask(height, width) for box in boxes]
    elsewhere = ~np.logical_or.reduce([_grown(mask, RING) for mask in masks])
    scene = _similarity(edges, elsewhere)
    found = []
    for box, mask in zip(boxes, masks, strict=True):
        inside = _similarity(edges, mask)
        around = _similarity(edges, _grown(mask, RING) & ~_grown(mask, 0.1))
        reference = scene if around is None else around
        if inside is not None and inside >= STILL and (reference is None or reference <= MOVED):
            found.append(box)
    return found


def _edges(frame_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.GaussianBlur(cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *way, scale=0.25) for way in ((1, 0), (0, 1)))
    return np.asarray(np.stack([across, down], axis=-1))


def _similarity(edges: list[NDArray[np.float32]], mask_HW: NDArray[np.bool_]) -> float | None:
    """Correlation of the gradients of two frames in a place; None where it has none."""
    first, second = (frame[mask_HW] for frame in edges)
    if not first.size or max(np.abs(first).mean(), np.abs(second).mean()) < MIN_EDGES / 2:
        return None
    norm = np.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float((first * second).sum()) / max(norm, 1e-6)


def _grown(mask_HW: NDArray[np.bool_], heights: float) -> NDArray[np.bool_]:
    """A mask grown by a share of the height of what it shows."""
    rows = np.flatnonzero(mask_HW.any(axis=1))
    thickness = rows[-1] - rows[0] + 1 if len(rows) else 1
    reach = max(2, round(heights * thickness))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    return np.asarray(cv2.dilate(mask_HW.astype(np.uint8), kernel)).astype(bool)
