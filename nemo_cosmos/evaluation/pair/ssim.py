"""Structural similarity (Wang et al., 2004), equal to scikit-image's defaults, as in TokenBench."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import WrongSizeError
from nemo_cosmos.evaluation.metric import Frames, PairMetric

WINDOW_PX = 7
_K1, _K2, _DATA_RANGE = 0.01, 0.03, 255.0


def ssim(generated_THWC: Frames, truth_THWC: Frames) -> float:
    """SSIM of a video: the mean over its frames."""
    return float(ssim_per_frame(generated_THWC, truth_THWC).mean())


def ssim_per_frame(generated_THWC: Frames, truth_THWC: Frames) -> NDArray[np.float64]:
    """:func:`ssim_frame` of each frame, float64 ``(T,)``."""
    pairs = zip(generated_THWC, truth_THWC, strict=True)
    return np.array([ssim_frame(generated, truth) for generated, truth in pairs])


def ssim_frame(generated_HWC: Frames, truth_HWC: Frames) -> float:
    """SSIM of two uint8 pictures ``(H,W,C)`` with a uniform 7x7 window and sample covariance.

    It is the mean over channels and over the pixels whose window lies inside the picture.

    Raises:
        WrongSizeError: a side has fewer than 7 pixels.
    """
    if min(truth_HWC.shape[:2]) < WINDOW_PX:
        raise WrongSizeError(
            f"SSIM looks through a window of {WINDOW_PX}x{WINDOW_PX} pixels, the frames are "
            f"{truth_HWC.shape[0]}x{truth_HWC.shape[1]} (height x width). Leave out the metric "
            "'ssim', or compare larger frames."
        )
    x, y = generated_HWC.astype(np.float64), truth_HWC.astype(np.float64)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    # The sample covariance divides by n - 1 where the window's mean divides by n.
    unbias = WINDOW_PX**2 / (WINDOW_PX**2 - 1)
    variance_x = unbias * (_window_mean(x * x) - mean_x**2)
    variance_y = unbias * (_window_mean(y * y) - mean_y**2)
    covariance = unbias * (_window_mean(x * y) - mean_x * mean_y)
    c1, c2 = (_K1 * _DATA_RANGE) ** 2, (_K2 * _DATA_RANGE) ** 2
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    denominator = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    border = WINDOW_PX // 2
    similarity_HWC = (numerator / denominator)[border:-border, border:-border]
    return float(similarity_HWC.mean())


def _window_mean(x_HWC: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.blur(x_HWC, (WINDOW_PX, WINDOW_PX)))


SSIM = PairMetric(
    name="ssim",
    higher_is_better=True,
    description="structural similarity, mean over frames",
    per_frame=ssim_per_frame,
)
