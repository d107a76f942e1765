"""Peak signal-to-noise ratio, as TokenBench defines it, and its simplest baseline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.evaluation.metric import Frames, PairMetric

MAX_VALUE = 255.0
#: Keeps the ratio of identical videos finite (about 187 dB); TokenBench's value.
EPSILON = float(np.finfo(np.float32).eps)


def psnr(generated_THWC: Frames, truth_THWC: Frames) -> float:
    """PSNR in dB over the whole video: ``20 log10(255 / (sqrt(mse) + eps))``.

    The mean squared error is taken over all frames, pixels and channels in float64.

    Args:
        generated_THWC: uint8 frames.
        truth_THWC: uint8 frames of the same shape.
    """
    # Frame by frame, because float64 copies of whole videos would not fit into memory.
    squared = [
        np.mean(np.square(generated.astype(np.float64) - truth))
        for generated, truth in zip(generated_THWC, truth_THWC, strict=True)
    ]
    return float(20 * np.log10(MAX_VALUE / (np.sqrt(np.mean(squared)) + EPSILON)))


def psnr_per_frame(generated_THWC: Frames, truth_THWC: Frames) -> NDArray[np.float64]:
    """PSNR in dB of each frame, float64 ``(T,)``; it shows how fast a prediction drifts."""
    pairs = zip(generated_THWC, truth_THWC, strict=True)
    return np.array([psnr(generated[None], truth[None]) for generated, truth in pairs])


def repeat_first_frame_psnr(generated_THWC: Frames, truth_THWC: Frames) -> float:
    """PSNR of the true first frame, repeated; the generated video plays no part.

    In a scene that hardly moves this baseline is high: read a model's PSNR beside it.
    """
    return psnr(np.broadcast_to(truth_THWC[:1], truth_THWC.shape), truth_THWC)


PSNR = PairMetric(
    name="psnr",
    unit="dB",
    higher_is_better=True,
    description="peak signal-to-noise ratio over the whole video",
    compute=psnr,
    per_frame=psnr_per_frame,
)
PSNR_REPEAT_FIRST = PairMetric(
    name="psnr_repeat_first",
    unit="dB",
    higher_is_better=True,
    description="baseline: the true first frame, repeated; a model that predicts motion beats it",
    min_frames=2,
    compute=repeat_first_frame_psnr,
    is_quality=False,
)
