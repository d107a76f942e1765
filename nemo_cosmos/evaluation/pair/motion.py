"""Does it move as told: optical flow of a generated video against the true one.

PSNR and SSIM hardly notice whether a small arm moves left or right. These metrics look at motion
alone. Flow is Farneback's (2003) between neighbouring frames; the agreement of two flows a and b is
their uncentred correlation ``sum(a*b) / sqrt(sum(a*a) * sum(b*b))``: 1 for the same motion, 0 for
an unrelated one, -1 for the opposite. The speed does not matter, because the flow of a blurred
object comes out too small; but below a quarter of the true speed the number shrinks in proportion,
so that a still video gets 0 and not the correlation of noise.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from nemo_cosmos.evaluation.pair.psnr import psnr

#: A pixel of the true video counts as moving from this flow on.
MOVING_PX_PER_FRAME = 0.5
#: Flow below this is the estimator's noise.
STILL_PX_PER_FRAME = 0.1
#: Share of the true speed below which a generated motion counts for less.
SLOW_SHARE = 0.25
#: Small videos are enlarged to this longest side, so that the flow's windows fit their objects.
_FLOW_SIDE_PX = 192


def motion_following(generated_THWC: np.ndarray, truth_THWC: np.ndarray) -> float:
    """Agreement of how the moving object is displaced from frame to frame, in [-1, 1].

    For each step, the mean flow over the pixels that move in the true video gives a 2-D
    displacement; the number is the agreement of the two series of displacements. Averaging over the
    object makes it robust to blur. Steps in which nothing moves count for little; a true video in
    which nothing moves at all gives 1 for a still generated one, else 0.
    """
    true_flow, flow = video_flow(truth_THWC), video_flow(generated_THWC)
    moving = _moving(true_flow, truth_THWC)
    if not moving.any():
        moving = _moving(flow, generated_THWC)
    return _agreement(_mean_where(flow, moving), _mean_where(true_flow, moving))


def flow_similarity(generated_THWC: np.ndarray, truth_THWC: np.ndarray) -> float:
    """Agreement of the flow at every pixel and step, in [-1, 1]."""
    return _agreement(video_flow(generated_THWC), video_flow(truth_THWC))


@dataclass(frozen=True)
class ActionGap:
    """How much the actions matter: the same start, predicted with right and with wrong actions.

    Attributes:
        psnr_right: dB against the truth, predicted with the actions that were taken.
        psnr_wrong: dB against the truth, predicted with other actions.
        following_right: :func:`motion_following` with the right actions.
        following_wrong: the same with the wrong ones.
    """

    psnr_right: float
    psnr_wrong: float
    following_right: float
    following_wrong: float

    @property
    def psnr_gap(self) -> float:
        """DB that the right actions are better; near zero when the model ignores them."""
        return self.psnr_right - self.psnr_wrong

    @property
    def following_gap(self) -> float:
        """Motion following that the right actions are better, up to 2."""
        return self.following_right - self.following_wrong


def action_gap(right_THWC: np.ndarray, wrong_THWC: np.ndarray, truth_THWC: np.ndarray) -> ActionGap:
    """Compare a prediction with the right actions and one with wrong actions with the truth.

    Args:
        right_THWC: uint8 frames, predicted with the actions of the true episode.
        wrong_THWC: the same shape, predicted from the same start with other actions.
        truth_THWC: the same shape, what happened.
    """
    return ActionGap(
        psnr_right=psnr(right_THWC, truth_THWC),
        psnr_wrong=psnr(wrong_THWC, truth_THWC),
        following_right=motion_following(right_THWC, truth_THWC),
        following_wrong=motion_following(wrong_THWC, truth_THWC),
    )


def video_flow(frames_THWC: np.ndarray) -> np.ndarray:
    """Farneback flow between neighbouring frames, float32 ``(T-1,H',W',2)`` in pixels (x, y).

    Small videos are enlarged (see :func:`_scale`), so H' and W' may be larger than H and W.
    """
    scale = _scale(frames_THWC)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    if scale != 1:
        size = (scale * frames_THWC.shape[2], scale * frames_THWC.shape[1])
        grey = [cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC) for picture in grey]
    flow = [_farneback(before, after) for before, after in itertools.pairwise(grey)]
    return np.stack(flow) if flow else np.zeros((0, *grey[0].shape, 2), dtype=np.float32)


def _farneback(before_HW: np.ndarray, after_HW: np.ndarray) -> np.ndarray:
    flow_HW2 = cv2.calcOpticalFlowFarneback(
        before_HW,
        after_HW,
        None,
        pyr_scale=0.5,
        levels=4,
        winsize=15,
        iterations=3,
        poly_n=5,
        poly_sigma=1.2,
        flags=0,
    )
    # Two equal frames give a flow of some thousandths of a pixel: that is no motion.
    flow_HW2[np.linalg.norm(flow_HW2, axis=-1) < STILL_PX_PER_FRAME] = 0
    return np.asarray(flow_HW2)


def _moving(flow_THW2: np.ndarray, frames_THWC: np.ndarray) -> np.ndarray:
    """Which pixels move, bool ``(T-1,H',W')``."""
    threshold_px = MOVING_PX_PER_FRAME * _scale(frames_THWC)
    return np.asarray(np.linalg.norm(flow_THW2, axis=-1) > threshold_px)


def _scale(frames_THWC: np.ndarray) -> int:
    """Whole factor by which a small video is enlarged."""
    return max(1, round(_FLOW_SIDE_PX / max(frames_THWC.shape[1:3])))


def _mean_where(flow_THW2: np.ndarray, moving_THW: np.ndarray) -> np.ndarray:
    """Mean flow over the moving pixels of each step, ``(T-1,2)``; zero where nothing moves."""
    count_T = np.maximum(moving_THW.sum(axis=(1, 2)), 1)
    total_T2 = (flow_THW2 * moving_THW[..., None]).sum(axis=(1, 2), dtype=np.float64)
    return np.asarray(total_T2 / count_T[:, None])


def _agreement(generated: np.ndarray, true: np.ndarray) -> float:
    """Agreement of a generated flow with the true one; two still ones agree fully."""
    generated, true = generated.astype(np.float64).ravel(), true.astype(np.float64).ravel()
    speed, true_speed = float(np.linalg.norm(generated)), float(np.linalg.norm(true))
    if speed == 0 or true_speed == 0:
        return float(speed == true_speed)
    correlation = float(np.clip(generated @ true / (speed * true_speed), -1, 1))
    return correlation * min(1.0, speed / (SLOW_SHARE * true_speed))
