"""Make faces unrecognisable: the filter after the video guards.

Two small networks find the faces of every frame (RetinaFace on MobileNet, and YuNet, which sees
smaller ones; packages on the index carry their weights), or the reference's RetinaFace on ResNet-50
where a site names its checkpoint. Faces are followed through the video and pixelated on a copy.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from nemo_cosmos.guardrails.base import FAILURE, SAFE, GuardKind, Verdict, video_problem
from nemo_cosmos.guardrails.faces.boxes import Face, FaceDetector, overlap, suppress
from nemo_cosmos.guardrails.faces.retinaface_mobile import MobileRetinaFace
from nemo_cosmos.guardrails.faces.tracks import cover
from nemo_cosmos.guardrails.faces.yunet import YuNetDetector

PIXEL_BLOCKS = 5
#: Share of the box's size that is added on each side, so that hairline and chin are covered.
MARGIN = 0.1
#: Overlap (IoU) from which on two networks agree on a face.
MIN_AGREEMENT = 0.3


class EmbeddedDetector:
    """Finds faces with both embedded networks, and says whether both see one.

    Raises:
        AssetError: the weights are unavailable.
    """

    def __init__(self) -> None:
        self._detectors: tuple[FaceDetector, ...] = (MobileRetinaFace(), YuNetDetector())

    def __call__(self, frame_HWC: np.ndarray) -> list[Face]:
        """Return the faces of an RGB frame, uint8 ``(H,W,3)``."""
        found = [detector(frame_HWC) for detector in self._detectors]
        return suppress(
            [
                replace(face, agreement=min(_score_at(others, face) for others in found))
                for faces in found
                for face in faces
            ]
        )


class FaceBlur:
    """Pixelates every face of at least 20 px, on a copy.

    Args:
        detector: finds the faces of one frame; by default loaded with the first video. When it
            cannot be loaded or fails on a frame, the whole video is refused.
        retinaface: the reference's ``Resnet50_Final.pth``, to be used instead of the embedded
            networks.
    """

    name = "face_blur"
    kind: GuardKind = "filter"

    def __init__(
        self, detector: FaceDetector | None = None, *, retinaface: str | None = None
    ) -> None:
        self._retinaface = retinaface
        self._detector = detector

    def apply(self, frames_THWC: np.ndarray) -> tuple[np.ndarray, Verdict]:
        """Return a copy with pixelated faces, and a verdict that counts them.

        Raises:
            AssetError: the weights are unavailable (the policy counts it as a refusal).
        """
        problem = video_problem(frames_THWC)
        if problem is not None:
            return frames_THWC, Verdict(False, self.name, FAILURE, problem)
        detector = self._detector = self._detector or _load_detector(self._retinaface)
        area = frames_THWC.shape[1] * frames_THWC.shape[2]
        covered_T = cover([detector(frame_HWC) for frame_HWC in frames_THWC], area)
        safe_THWC = frames_THWC.copy()
        for frame_HWC, faces in zip(safe_THWC, covered_T, strict=True):
            for face in faces:
                pixelate(frame_HWC, face)
        share = (safe_THWC != frames_THWC).any(axis=-1).mean()
        reason = (
            f"faces pixelated in {sum(map(bool, covered_T))} of {len(safe_THWC)} frames, at most "
            f"{max(map(len, covered_T))} in one, {share:.1%} of the picture"
        )
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


def _score_at(faces: list[Face], face: Face) -> float:
    """Return the best score of a network's faces at the place of a face; 0 without one."""
    scores = [other.score for other in faces if overlap(face, other) >= MIN_AGREEMENT]
    return max(scores, default=0.0)


def _load_detector(checkpoint: str | None) -> FaceDetector:
    if checkpoint:
        # Torch loads slowly, and only this detector needs it.
        from nemo_cosmos.guardrails.faces.retinaface_resnet import ResNetRetinaFace

        return ResNetRetinaFace(Path(checkpoint))
    return EmbeddedDetector()
