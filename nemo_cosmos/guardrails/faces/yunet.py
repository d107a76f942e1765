"""YuNet (Wu et al. 2023, "YuNet: a tiny millisecond-level face detector"), run by OpenCV.

Large frames are searched at a reduced scale as well, because the detector misses faces that fill
them; small ones are enlarged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nemo_cosmos.assets import asset_path
from nemo_cosmos.guardrails.faces.boxes import (
    CANDIDATE_THRESHOLD,
    NMS_THRESHOLD,
    TOP_K,
    Face,
    scaled,
    suppress,
)

#: Longest side, in pixels, at which YuNet finds faces of all usual sizes.
_SMALL_SIDE_PX, _LARGE_SIDE_PX = 320, 640


class YuNetDetector:
    """Finds faces in one frame at a time.

    Args:
        model: the ONNX file; by default the asset ``yunet_face_detector``.

    Raises:
        AssetError: the weights are unavailable.
    """

    def __init__(self, model: Path | None = None) -> None:
        path = str(model if model is not None else asset_path("yunet_face_detector"))
        self._net: Any = cv2.FaceDetectorYN.create(
            path, "", (_SMALL_SIDE_PX, _SMALL_SIDE_PX), CANDIDATE_THRESHOLD, NMS_THRESHOLD, TOP_K
        )

    def __call__(self, frame_HWC: np.ndarray) -> list[Face]:
        """Return the faces of an RGB frame, uint8 ``(H,W,3)``."""
        frame_bgr = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR)
        return suppress(
            [face for scale in _scales(frame_HWC.shape) for face in self._detect(frame_bgr, scale)]
        )

    def _detect(self, frame_bgr: np.ndarray, scale: float) -> list[Face]:
        net_height, net_width = (max(1, round(side * scale)) for side in frame_bgr.shape[:2])
        resized = cv2.resize(frame_bgr, (net_width, net_height)) if scale != 1 else frame_bgr
        self._net.setInputSize((net_width, net_height))
        _, rows = self._net.detect(resized)
        found = np.zeros((0, 15)) if rows is None else rows
        return [
            scaled(Face(x, y, width, height, score, landmarks=tuple(landmarks)), 1 / scale)
            for x, y, width, height, *landmarks, score in found.tolist()
        ]


def _scales(shape: tuple[int, ...]) -> list[float]:
    """Return the scales at which to search: the original, and one that suits the detector."""
    longest = max(shape[:2])
    if longest > _LARGE_SIDE_PX:
        return [1.0, _SMALL_SIDE_PX / longest]
    return [1.0] if longest >= _SMALL_SIDE_PX else [_SMALL_SIDE_PX / longest]
