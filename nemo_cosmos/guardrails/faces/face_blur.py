"""Make faces unrecognisable: the filter after the video guards.

Two small networks find the faces of every frame (RetinaFace on MobileNet, and YuNet, which sees
smaller ones; packages on the index carry their weights), or the reference's RetinaFace on ResNet-50
where a site names its checkpoint. Faces are followed through the video and pixelated on a copy.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from nemo_cosmos.guardrails.base import FAILURE, SAFE, GuardKind, Verdict, video_problem
from nemo_cosmos.guardrails.faces.boxes import CarefulDetector, Face, FaceDetector, suppress
from nemo_cosmos.guardrails.faces.retinaface_mobile import MobileRetinaFace
from nemo_cosmos.guardrails.faces.second_look import SecondLook, agree
from nemo_cosmos.guardrails.faces.tracks import cover
from nemo_cosmos.guardrails.faces.yunet import YuNetDetector

PIXEL_BLOCKS = 5
#: Share of the box's size that is added on each side, so that hairline and chin are covered.
MARGIN = 0.1
#: Share of a frame from which on the verdict says that little of the picture is left.
MOST_OF_A_FRAME = 0.3


class EmbeddedDetector:
    """Finds faces with both embedded networks, and says whether both are certain.

    Raises:
        AssetError: the weights are unavailable.
    """

    def __init__(self) -> None:
        self._retinaface, self._yunet = MobileRetinaFace(), YuNetDetector()
        self._look = SecondLook(self._retinaface, self._yunet)

    def __call__(self, frame_HWC: np.ndarray) -> list[Face]:
        """Return the faces of an RGB frame, uint8 ``(H,W,3)``."""
        first, second = self._retinaface(frame_HWC), self._yunet(frame_HWC)
        return suppress(
            [
                *(replace(f, certain=any(agree(f, other) for other in second)) for f in first),
                *(replace(f, certain=any(agree(other, f) for other in first)) for f in second),
            ]
        )

    def confirm(self, frame_HWC: np.ndarray, face: Face) -> bool:
        """Whether a second look at an uncertain face of that frame finds it again."""
        return self._look(frame_HWC, face)


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
        found_T = [detector(frame_HWC) for frame_HWC in frames_THWC]

        @cache  # tracks are followed both ways, and ask about the same faces
        def confirm(frame: int, face: Face) -> bool:
            if not isinstance(detector, CarefulDetector):
                return True
            return detector.confirm(frames_THWC[frame], face)

        covered_T = cover(found_T, confirm)
        safe_THWC = frames_THWC.copy()
        for frame_HWC, faces in zip(safe_THWC, covered_T, strict=True):
            for face in faces:
                pixelate(frame_HWC, face)
        return safe_THWC, self._verdict(frames_THWC != safe_THWC, covered_T)

    def _verdict(self, changed_THWC: np.ndarray, covered_T: list[list[Face]]) -> Verdict:
        """Say how much was pixelated."""
        share_T = changed_THWC.any(axis=-1).mean(axis=(1, 2))
        measures = {
            "faces": max(map(len, covered_T)),
            "frames": len(covered_T),
            "frames_pixelated": sum(map(bool, covered_T)),
            "share_pixelated": round(float(share_T.mean()), 4),
            "largest_share_pixelated": round(float(share_T.max()), 4),
        }
        reason = (
            f"faces pixelated in {measures['frames_pixelated']} of {len(covered_T)} frames, at "
            f"most {measures['faces']} in one, {share_T.mean():.1%} of the picture"
        )
        if share_T.max() >= MOST_OF_A_FRAME:
            reason += (
                f"; faces fill up to {share_T.max():.0%} of a frame, so little of the picture is "
                f"left ('--disable-guard {self.name}' keeps it)"
            )
        return Verdict(True, self.name, SAFE, reason, measures)


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


def _load_detector(checkpoint: str | None) -> FaceDetector:
    if checkpoint:
        # Torch loads slowly, and only this detector needs it.
        from nemo_cosmos.guardrails.faces.retinaface_resnet import ResNetRetinaFace

        return ResNetRetinaFace(Path(checkpoint))
    return EmbeddedDetector()
