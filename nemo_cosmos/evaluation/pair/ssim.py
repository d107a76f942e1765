"""Structural similarity (Wang et al., 2004), equal to scikit-image's defaults, as in TokenBench."""

from __future__ import annotations

import cv2
import numpy as np

from nemo_cosmos.errors import WrongSizeError

WINDOW_PX = 7
_K1, _K2, _DATA_RANGE = 0.01, 0.03, 255.0


def ssim(generated_THWC: np.ndarray, truth_THWC: np.ndarray) -> float:
    """Mean over frames of :func:`ssim_frame`."""
    pairs = zip(generated_THWC, truth_THWC, strict=True)
    return float(np.mean([ssim_frame(generated, truth) for generated, truth in pairs]))


def ssim_frame(generated_HWC: np.ndarray, truth_HWC: np.ndarray) -> float:
    """SSIM of two uint8 pictures ``(H,W,C)``: uniform 7x7 window, sample covariance.

    The mean over channels and over the pixels whose window lies inside the picture.

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


def _window_mean(x_HWC: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.blur(x_HWC, (WINDOW_PX, WINDOW_PX)))
