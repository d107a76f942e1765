"""Does a video move as it should? Optical flow of a generated video against the true one.

PSNR and SSIM hardly notice whether a small arm moves left or right. These metrics look at motion
alone. Flow is Farneback's (2003) between neighbouring frames; the agreement of two flows a and b is
their uncentred correlation ``sum(a*b) / sqrt(sum(a*a) * sum(b*b))``: 1 for the same motion, 0 for
an unrelated one, -1 for the opposite. Speed does not matter, because the flow of a blurred object
comes out too small. Below a quarter of the true speed, however, the number shrinks in proportion,
so that a still video gets 0 and not the correlation of noise.

Shape suffixes: T frames (T-1 steps between them), H height, W width, 2 for (x, y).
"""

from __future__ import annotations

import hashlib
import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.evaluation.metric import Frames, PairMetric

Flow = NDArray[np.float32]
#: A pixel of the true video counts as moving from this flow on.
MOVING_PX_PER_FRAME = 0.5
#: Flow below this is the estimator's noise.
STILL_PX_PER_FRAME = 0.1
#: Share of the true speed below which a generated motion counts for less.
SLOW_SHARE = 0.25
#: Small videos are enlarged to this longest side, so that the flow's windows fit their objects.
_FLOW_SIDE_PX = 192
#: Flow of a video that is kept for the next metric.
_MAX_KEPT_BYTES = 1 << 30
_recent: dict[bytes, Flow] = {}


def motion_following(generated_THWC: Frames, truth_THWC: Frames) -> float:
    """Agreement of how the moving object is displaced from frame to frame, in [-1, 1].

    At each step, the mean flow over the pixels that move in the true video gives a 2-D
    displacement; the number is the agreement of the two series of displacements. Averaging over the
    object makes it robust to blur. Steps in which nothing moves count for little. Where the true
    video does not move at all, a still generated one gets 1 and any other 0.
    """
    true_flow, flow = video_flow(truth_THWC), video_flow(generated_THWC)
    moving = _moving(true_flow, truth_THWC)
    if not moving.any():
        moving = _moving(flow, generated_THWC)
    return _agreement(_mean_where(flow, moving), _mean_where(true_flow, moving))


def flow_similarity(generated_THWC: Frames, truth_THWC: Frames) -> float:
    """Agreement of the flow at every pixel and step, in [-1, 1]."""
    return _agreement(video_flow(generated_THWC), video_flow(truth_THWC))


def motion_amount(frames_THWC: Frames) -> float:
    """Mean length of the flow over all pixels and steps, in pixels of the video per frame."""
    flow = video_flow(frames_THWC)
    if flow.size == 0:
        return 0.0
    return float(np.linalg.norm(flow, axis=-1).mean() / _scale(frames_THWC))


def video_flow(frames_THWC: Frames) -> Flow:
    """Farneback flow between neighbouring frames, float32 ``(T-1,H',W',2)`` in pixels (x, y).

    Small videos are enlarged (see :func:`_scale`), so H' and W' may be larger than H and W. The
    flow is the costly part of every metric here, and several look at the same video: those of the
    last two videos are kept, read-only.
    """
    key = hashlib.sha256(repr(frames_THWC.shape).encode() + frames_THWC.tobytes()).digest()
    flow = _recent.pop(key, None)
    if flow is None:
        flow = _compute_flow(frames_THWC)
        flow.flags.writeable = False
    if flow.nbytes <= _MAX_KEPT_BYTES:
        _recent[key] = flow
    while len(_recent) > 2:
        _recent.pop(next(iter(_recent)), None)
    return flow


def _compute_flow(frames_THWC: Frames) -> Flow:
    scale = _scale(frames_THWC)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    if scale != 1:
        size = (scale * frames_THWC.shape[2], scale * frames_THWC.shape[1])
        grey = [cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC) for picture in grey]
    flow = [_farneback(before, after) for before, after in itertools.pairwise(grey)]
    return np.stack(flow) if flow else np.zeros((0, *grey[0].shape, 2), dtype=np.float32)


def _farneback(before_HW: Frames, after_HW: Frames) -> Flow:
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
    # Two equal frames give a flow of some thousandths of a pixel, which is no motion.
    flow_HW2[np.linalg.norm(flow_HW2, axis=-1) < STILL_PX_PER_FRAME] = 0
    return np.asarray(flow_HW2)


def _moving(flow_THW2: Flow, frames_THWC: Frames) -> NDArray[np.bool_]:
    """Which pixels move, bool ``(T-1,H',W')``."""
    threshold_px = MOVING_PX_PER_FRAME * _scale(frames_THWC)
    return np.asarray(np.linalg.norm(flow_THW2, axis=-1) > threshold_px)


def _scale(frames_THWC: Frames) -> int:
    """Whole factor by which a small video is enlarged."""
    return max(1, round(_FLOW_SIDE_PX / max(frames_THWC.shape[1:3])))


def _mean_where(flow_THW2: Flow, moving_THW: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean flow over the moving pixels of each step, ``(T-1,2)``; zero where nothing moves."""
    count_T = np.maximum(moving_THW.sum(axis=(1, 2)), 1)
    total_T2 = (flow_THW2 * moving_THW[..., None]).sum(axis=(1, 2), dtype=np.float64)
    return np.asarray(total_T2 / count_T[:, None])


def _agreement(generated: NDArray[np.floating], true: NDArray[np.floating]) -> float:
    """Agreement of a generated flow with the true one; two still ones agree fully."""
    generated, true = generated.astype(np.float64).ravel(), true.astype(np.float64).ravel()
    speed, true_speed = float(np.linalg.norm(generated)), float(np.linalg.norm(true))
    if speed == 0 or true_speed == 0:
        return float(speed == true_speed)
    correlation = float(np.clip(generated @ true / (speed * true_speed), -1, 1))
    return correlation * min(1.0, speed / (SLOW_SHARE * true_speed))


MOTION_FOLLOWING = PairMetric(
    name="motion_following",
    higher_is_better=True,
    description="agreement of the moving object's step-by-step displacement; 1 the same, 0 still",
    min_frames=2,
    compute=motion_following,
)
FLOW_SIMILARITY = PairMetric(
    name="flow_similarity",
    higher_is_better=True,
    description="agreement of the optical flow at every pixel; 1 the same, 0 still",
    min_frames=2,
    compute=flow_similarity,
)
