"""The embedded video classifier: open_nsfw, which recognises sexual pictures.

Its weights (Yahoo's open_nsfw of 2016, a thin ResNet-50, BSD-2-Clause) come in a pinned package. It
has one category, ``sexual``; violence and the rest need the reference's classifier
(:mod:`~nemo_cosmos.guardrails.video.siglip_guard`). One unsafe frame makes the video unsafe.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import numpy as np
from PIL import Image

from nemo_cosmos.assets import asset_path
from nemo_cosmos.guardrails.base import FAILURE, INVALID, SAFE, GuardKind, Verdict, video_problem
from nemo_cosmos.perception.onnx import load_onnx

#: Probability of a sexual picture from which on a frame is refused. Yahoo calls more than 0.8 very
#: likely unsafe, but a close-up of a face in an animated film reached 0.86.
THRESHOLD = 0.9
FRAMES_PER_S = 2.0
BATCH_SIZE = 8
_RESIZED_PX, _CROP_PX = 256, 224
_MEAN_BGR = np.array([104, 117, 123], dtype=np.float32)

Classifier = Callable[[np.ndarray], np.ndarray]


class OpenNsfw:
    """Probabilities of a sexual picture.

    Raises:
        AssetError: the weights are unavailable.
    """

    def __init__(self) -> None:
        self._network = load_onnx(asset_path("open_nsfw"))

    def __call__(self, frames_THWC: np.ndarray) -> np.ndarray:
        """Return one number per frame, float32 ``(T,)``."""
        batches = [
            np.stack([_prepare(frame) for frame in frames_THWC[start : start + BATCH_SIZE]])
            for start in range(0, len(frames_THWC), BATCH_SIZE)
        ]
        return np.concatenate([self._network.run_one(batch)[:, 1] for batch in batches])


class VideoClassifierGuard:
    """Refuses videos with at least one sexual frame.

    Args:
        classifier: the frames' probabilities of harm; by default :class:`OpenNsfw`, which is loaded
            with the first video.
    """

    name = "video_classifier"
    kind: GuardKind = "video"
    frames_per_s = FRAMES_PER_S

    def __init__(self, classifier: Classifier | None = None) -> None:
        self._classifier = classifier
        self._loading = threading.Lock()

    def check(self, x: str | np.ndarray) -> Verdict:
        """Judge the frames of a video.

        Raises:
            AssetError: the weights are unavailable (the policy counts it as a refusal).
        """
        problem = video_problem(x)
        if problem is not None or not isinstance(x, np.ndarray):
            return Verdict(False, self.name, INVALID, problem or "the video is text")
        with self._loading:
            classifier = self._classifier = self._classifier or OpenNsfw()
        harm_T = classifier(x)
        if harm_T.shape != (len(x),) or not np.isfinite(harm_T).all():
            reason = "the classifier gave NaN, infinite or missing values"
            return Verdict(False, self.name, FAILURE, reason)
        worst = float(harm_T.max())
        reason = f"probability of harm {worst:.2f} in the worst of {len(x)} frames"
        if worst >= THRESHOLD:
            return Verdict(False, self.name, "sexual", reason)
        return Verdict(True, self.name, SAFE, reason)


def _prepare(frame_HWC: np.ndarray) -> np.ndarray:
    """Return a frame as in the training: squeezed, cropped, through JPEG, BGR minus its mean."""
    picture = Image.fromarray(frame_HWC).resize(
        (_RESIZED_PX, _RESIZED_PX), Image.Resampling.BILINEAR
    )
    edge = (_RESIZED_PX - _CROP_PX) // 2
    cropped = picture.crop((edge, edge, edge + _CROP_PX, edge + _CROP_PX))
    with io.BytesIO() as buffer:
        cropped.save(buffer, format="JPEG")
        pixels_HWC = np.asarray(Image.open(buffer), dtype=np.float32)
    return pixels_HWC[..., ::-1] - _MEAN_BGR
