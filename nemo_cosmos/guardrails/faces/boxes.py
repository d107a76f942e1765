"""Boxes of faces, and their decoding from a RetinaFace network's output.

RetinaFace (Deng et al. 2019, arXiv:1905.00641) predicts, for every prior box, the face's offset
from it. Priors are squares of two sizes at every cell of three feature maps. With variances
``v_c = 0.1`` and ``v_s = 0.2``, a prior of centre ``p``, size ``s`` and the prediction ``(d, e)``
give the centre ``p + d v_c s`` and the size ``s exp(e v_s)``; each of five landmarks is at
``p + l v_c s``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from nemo_cosmos.errors import GuardrailError

#: Score from which on a detection surely is a face and begins a track.
SCORE_THRESHOLD = 0.7
#: Score from which on a detection may be a face; it can only continue a track.
CANDIDATE_THRESHOLD = 0.3
NMS_THRESHOLD = 0.4
#: Candidates before suppression, and faces after it, in one frame.
TOP_K, KEEP_K = 5000, 750
MIN_FACE_PX = 20

STRIDES = (8, 16, 32)
PRIOR_SIZES_PX = ((16, 32), (64, 128), (256, 512))
_VARIANCE_CENTRE, _VARIANCE_SIZE = 0.1, 0.2
#: Mean colours, in the order of the network's channels: blue, green, red.
MEAN_BGR = (104.0, 117.0, 123.0)


@dataclass(frozen=True)
class Face:
    """A face in a frame, in pixels of the frame.

    Attributes:
        x: left edge.
        y: upper edge.
        width: width of the box.
        height: height of the box.
        score: from 0 to 1.
        certain: whether it is beyond doubt in this frame; always where one network decides alone.
        landmarks: x and y of the eyes, the tip of the nose and the corners of the mouth, the left
            one in the picture first; empty where the network gives none.
    """

    x: float
    y: float
    width: float
    height: float
    score: float
    certain: bool = True
    landmarks: tuple[float, ...] = ()

    @property
    def is_large(self) -> bool:
        """Whether it is large enough to be recognised."""
        return min(self.width, self.height) >= MIN_FACE_PX


class FaceDetector(Protocol):
    """Finds faces in one frame at a time."""

    def __call__(self, frame_HWC: np.ndarray) -> list[Face]:
        """Return faces of an RGB frame, uint8 ``(H,W,3)``, from ``CANDIDATE_THRESHOLD`` on."""
        ...


@runtime_checkable
class CarefulDetector(FaceDetector, Protocol):
    """A detector that may be uncertain, and can look again."""

    def confirm(self, frame_HWC: np.ndarray, face: Face) -> bool:
        """Whether an uncertain face of that frame is one after all."""
        ...


@lru_cache(maxsize=8)
def prior_boxes(height: int, width: int) -> np.ndarray:
    """Return the priors of a picture, float64 ``(N,3)``: centre x, centre y, side in pixels."""
    boxes = []
    for stride, sizes in zip(STRIDES, PRIOR_SIZES_PX, strict=True):
        rows, columns = -(-height // stride), -(-width // stride)
        y, x, size = np.meshgrid(
            (np.arange(rows) + 0.5) * stride, (np.arange(columns) + 0.5) * stride, sizes,
            indexing="ij",
        )  # fmt: skip
        boxes.append(np.stack([x, y, size], axis=-1).reshape(-1, 3))
    return np.concatenate(boxes)


def decode_faces(
    loc_N4: np.ndarray,
    face_N: np.ndarray,
    height: int,
    width: int,
    landmarks_N10: np.ndarray | None = None,
) -> list[Face]:
    """Return the faces that a RetinaFace network finds in one picture.

    Args:
        loc_N4: offsets of centre and size for every prior.
        face_N: probability of a face for every prior.
        height: height of the network's input in pixels.
        width: width of the network's input in pixels.
        landmarks_N10: offsets of the landmarks for every prior; without them the faces have none.

    Returns:
        Faces in pixels of that picture, best first, overlapping ones suppressed.

    Raises:
        GuardrailError: the shapes do not fit such a picture, or a number is not finite.
    """
    priors_N3 = prior_boxes(height, width)
    if loc_N4.shape != (len(priors_N3), 4) or face_N.shape != (len(priors_N3),):
        raise GuardrailError(
            f"The face detector answered with shapes {loc_N4.shape} and {face_N.shape}, expected "
            f"{len(priors_N3)} boxes for {width}x{height}. Its weights are not those of a "
            "RetinaFace with the usual priors; fetch them again."
        )
    if not (np.isfinite(loc_N4).all() and np.isfinite(face_N).all()):
        raise GuardrailError(
            "The face detector gave NaN or infinite values. Its weights are damaged; fetch them "
            "again."
        )
    likely = np.flatnonzero(face_N >= CANDIDATE_THRESHOLD)
    likely = likely[np.argsort(-face_N[likely], kind="stable")[:TOP_K]]
    prior, loc = priors_N3[likely], loc_N4[likely].astype(np.float64)
    centre = prior[:, :2] + loc[:, :2] * _VARIANCE_CENTRE * prior[:, 2:]
    size = prior[:, 2:] * np.exp(np.clip(loc[:, 2:] * _VARIANCE_SIZE, -20, 20))
    rows = np.column_stack([centre - size / 2, size, face_N[likely]]).tolist()
    points: list[list[float]] = [[] for _ in rows]
    if landmarks_N10 is not None:
        reach = np.tile(_VARIANCE_CENTRE * prior[:, 2:], 10)
        points = (np.tile(prior[:, :2], 5) + landmarks_N10[likely] * reach).tolist()
    faces = [
        Face(x, y, w, h, score, landmarks=tuple(found))
        for (x, y, w, h, score), found in zip(rows, points, strict=True)
    ]
    return suppress(faces)


def suppress(faces: Sequence[Face], threshold: float = NMS_THRESHOLD) -> list[Face]:
    """Keep the best of the faces that overlap more than the threshold (NMS), best first."""
    boxes = [(face.x, face.y, face.width, face.height) for face in faces]
    scores = [face.score for face in faces]
    kept = cv2.dnn.NMSBoxes(boxes, scores, 0.0, threshold) if boxes else ()
    return [faces[int(index)] for index in kept][:KEEP_K]


def scaled(face: Face, scale: float) -> Face:
    """Return the face in a picture that is ``scale`` times as large."""
    return replace(
        face,
        x=face.x * scale,
        y=face.y * scale,
        width=face.width * scale,
        height=face.height * scale,
        landmarks=tuple(value * scale for value in face.landmarks),
    )


def overlap(a: Face, b: Face) -> float:
    """Return the intersection over union of two boxes."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a.width * a.height + b.width * b.height - shared)
