"""Does a video only repeat its first frame? A pipeline that reconstructs its input looks fine."""

from __future__ import annotations

import numpy as np

from nemo_cosmos.evaluation.metric import Frames, PairMetric
from nemo_cosmos.evaluation.pair.psnr import psnr


def motion_margin(generated_THWC: Frames, truth_THWC: Frames) -> float:
    """How much nearer a video is to the truth than to its own first frame repeated, in dB.

    Negative where it rather repeats its first frame. Where the truth hardly moves the two are
    alike, and the margin is small for any model.

    Args:
        generated_THWC: uint8 frames.
        truth_THWC: uint8 frames of the same shape.
    """
    still_THWC = np.broadcast_to(generated_THWC[:1], generated_THWC.shape)
    return psnr(generated_THWC, truth_THWC) - psnr(generated_THWC, still_THWC)


MOTION_MARGIN = PairMetric(
    name="motion_margin",
    unit="dB",
    higher_is_better=True,
    description="nearer to the truth than to its own first frame repeated; negative for a copy",
    min_frames=2,
    compute=motion_margin,
    is_default=False,
)
