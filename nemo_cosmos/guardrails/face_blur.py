"""Make faces unrecognisable: the embedded post-guard.

Faces are found by YuNet (Wu et al., 2023, "YuNet: a tiny millisecond-level face detector"), whose
weights a package on the index carries, and pixelated on a copy. Large frames are searched at a
reduced scale as well, because the detector misses faces that fill them; small ones are enlarged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nemo_cosmos.assets import asset_path
from nemo_cosmos.guardrails.base import FAILURE, SAFE, GuardKind, Verdict, video_problem

SCORE_THRESHOLD = 0.7
NMS_THRESHOLD = 0.4
TOP_K = 5000
MIN_FACE_PX = 20
PIXEL_BLOCKS = 5
#: Share of the box's size that is added on each side, so that hair line and chin are covered.
MARGIN = 0.1
#: Longest side, in pixels, at which YuNet finds faces of all usual sizes.
_SMALL_SIDE_PX, _LARGE_SIDE_PX = 320, 640


@dataclass(frozen=True)
class Face:
    """A face in a frame, in pixels of the frame."""

    x: float
    y: float
    width: float
    height: float
    score: float


class YuNetDetector:
    """Finds faces in one frame at a time.

    Args:
        model: the ONNX file; by default the asset ``yunet_face_detector``.

    Raises:
        AssetError: the weights cannot be had.
    """

    def __init__(self, model: Path | None = None, score_threshold: float = SCORE_THRESHOLD) -> None:
        path = str(model if model is not None else asset_path("yunet_face_detector"))
        self._net: Any = cv2.FaceDetectorYN.create(
            path, "", (_SMALL_SIDE_PX, _SMALL_SIDE_PX), score_threshold, NMS_THRESHOLD, TOP_K
        )

    def __call__(self, frame_HWC: np.ndarray) -> list[Face]:
        """Faces of an RGB frame, uint8 ``(H,W,3)``; one face may be reported once per scale."""
        frame_bgr = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR)
        return [
            face for scale in _scales(frame_HWC.shape) for face in self._detect(frame_bgr, scale)
        ]

    def _detect(self, frame_bgr: np.ndarray, scale: float) -> list[Face]:
        net_height, net_width = (max(1, round(side * scale)) for side in frame_bgr.shape[:2])
        scaled = cv2.resize(frame_bgr, (net_width, net_height)) if scale != 1 else frame_bgr
        self._net.setInputSize((net_width, net_height))
        _, rows = self._net.detect(scaled)
        faces = []
        for row in rows if rows is not None else ():
            x, y, width, height = (float(value) / scale for value in row[:4])
            faces.append(Face(x, y, width, height, float(row[-1])))
        return faces


class FaceBlur:
    """Pixelates every face of at least 20 px, on a copy.

    Args:
        detector: finds the faces of one frame; by default YuNet, loaded with the first video. When
            it cannot be loaded or fails on a frame, the whole video is refused.
    """

    name = "face_blur"
    kind: GuardKind = "filter"

    def __init__(self, detector: YuNetDetector | None = None) -> None:
        self._detector = detector

    def apply(self, frames_THWC: np.ndarray) -> tuple[np.ndarray, Verdict]:
        """Return a copy with pixelated faces, and a verdict that counts them.

        Raises:
            AssetError: the weights cannot be had (the policy counts it as a refusal).
        """
        problem = video_problem(frames_THWC)
        if problem is not None:
            return frames_THWC, Verdict(False, self.name, FAILURE, problem)
        if self._detector is None:
            self._detector = YuNetDetector()
        safe_THWC = frames_THWC.copy()
        num_frames_with_faces = 0
        for frame_HWC in safe_THWC:
            faces = [face for face in self._detector(frame_HWC) if _is_large_enough(face)]
            num_frames_with_faces += bool(faces)
            for face in faces:
                pixelate(frame_HWC, face)
        reason = f"faces pixelated in {num_frames_with_faces} of {len(safe_THWC)} frames"
        return safe_THWC, Verdict(True, self.name, SAFE, reason)


def pixelate(frame_HWC: np.ndarray, face: Face) -> None:
    """Replace the face's box (with its margin) by five by five blocks, in place."""
    height, width = frame_HWC.shape[:2]
    left = max(0, int(face.x - MARGIN * face.width))
    top = max(0, int(face.y - MARGIN * face.height))
    right = min(width, int(np.ceil(face.x + (1 + MARGIN) * face.width)))
    bottom = min(height, int(np.ceil(face.y + (1 + MARGIN) * face.height)))
    if right <= left or bottom <= top:
        return
    box_HWC = frame_HWC[top:bottom, left:right]
    size = (right - left, bottom - top)
    blocks = cv2.resize(box_HWC, (PIXEL_BLOCKS, PIXEL_BLOCKS), interpolation=cv2.INTER_AREA)
    box_HWC[:] = cv2.resize(blocks, size, interpolation=cv2.INTER_NEAREST)


def _is_large_enough(face: Face) -> bool:
    return min(face.width, face.height) >= MIN_FACE_PX


def _scales(shape: tuple[int, ...]) -> list[float]:
    """Scales at which to search: as it is, and towards a size that suits the detector."""
    longest = max(shape[:2])
    if longest > _LARGE_SIDE_PX:
        return [1.0, _SMALL_SIDE_PX / longest]
    return [1.0] if longest >= _SMALL_SIDE_PX else [_SMALL_SIDE_PX / longest]
