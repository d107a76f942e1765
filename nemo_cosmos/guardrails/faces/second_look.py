"""Decide whether a box shows a face, by what two networks make of it.

Either network alone takes a blurred robot arm, two pots on a stove or a cloud for a face now and
then, and on a blurred picture both may at once. On a real face RetinaFace is nearly certain, YuNet
is sure, and both put eyes, nose and mouth at the same places. Where that is not so in the whole
frame, the box is cut out, enlarged, turned by quarters of a circle (neither network expects a face
that lies or stands on its head), and looked at again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from nemo_cosmos.guardrails.faces.boxes import SCORE_THRESHOLD, Face, FaceDetector, overlap

#: Score of RetinaFace, and of YuNet, from which on they are taken to be certain together.
CERTAIN = (0.95, SCORE_THRESHOLD)
#: Mean distance of the landmarks of two networks, as a share of the box's size, on real faces:
#: 0.02 to 0.12 in frames out of focus, and 0.2 to 0.9 on what is no face or is turned.
MAX_LANDMARK_GAP = 0.15
#: Overlap (IoU) from which on two boxes are of one face.
MIN_AGREEMENT = 0.3
#: Side of the picture in which a box is looked at again, and how much wider than the box it is.
LOOK_SIDE_PX, LOOK_WIDTH = 320, 2.0
#: Overlap (IoU) of a face that is found again with where it should be; a turned box is a square.
_MIN_FOUND_AGAIN = 0.2


def landmark_gap(a: Face, b: Face) -> float:
    """Return the mean distance of two faces' landmarks as a share of the first one's size."""
    points_a, points_b = (np.reshape(face.landmarks, (-1, 2)) for face in (a, b))
    distance = np.linalg.norm(points_a - points_b, axis=1).mean()
    return float(distance / np.sqrt(a.width * a.height))


def agree(retinaface: Face, yunet: Face) -> bool:
    """Whether both networks are certain of one face, and of its eyes, nose and mouth."""
    return (
        retinaface.score >= CERTAIN[0]
        and yunet.score >= CERTAIN[1]
        and overlap(retinaface, yunet) >= MIN_AGREEMENT
        and landmark_gap(retinaface, yunet) <= MAX_LANDMARK_GAP
    )


def agreed(retinaface: Sequence[Face], yunet: Sequence[Face]) -> list[Face]:
    """Return RetinaFace's boxes of the faces on which both networks agree."""
    return [face for face in retinaface if any(agree(face, other) for other in yunet)]


class SecondLook:
    """Looks at a box again, enlarged and turned.

    Args:
        retinaface: one network.
        yunet: the other.
    """

    def __init__(self, retinaface: FaceDetector, yunet: FaceDetector) -> None:
        self._retinaface, self._yunet = retinaface, yunet

    def __call__(self, frame_HWC: np.ndarray, face: Face) -> bool:
        """Whether both networks agree on a face in that box, in one of four directions."""
        picture_HWC, scale = cut_out(frame_HWC, face)
        middle = LOOK_SIDE_PX / 2
        side = scale * float(np.sqrt(face.width * face.height))
        expected = replace(face, x=middle - side / 2, y=middle - side / 2, width=side, height=side)
        for quarters in range(4):
            turned_HWC = np.ascontiguousarray(np.rot90(picture_HWC, quarters))
            found = agreed(self._retinaface(turned_HWC), self._yunet(turned_HWC))
            if any(overlap(expected, other) >= _MIN_FOUND_AGAIN for other in found):
                return True
        return False


def cut_out(frame_HWC: np.ndarray, face: Face) -> tuple[np.ndarray, float]:
    """Return a square picture with the box in its middle, and its scale.

    Beyond the frame its border is repeated.
    """
    scale = LOOK_SIDE_PX / (LOOK_WIDTH * max(face.width, face.height))
    x, y = face.x + face.width / 2, face.y + face.height / 2
    middle = LOOK_SIDE_PX / 2
    placed = np.array([[scale, 0, middle - scale * x], [0, scale, middle - scale * y]])
    if scale < 1:  # else small structures alias, which warpAffine does not prevent
        frame_HWC = cv2.GaussianBlur(frame_HWC, (0, 0), 0.5 / scale)
    picture_HWC = cv2.warpAffine(
        frame_HWC, placed, (LOOK_SIDE_PX, LOOK_SIDE_PX), borderMode=cv2.BORDER_REPLICATE
    )
    return picture_HWC, scale
