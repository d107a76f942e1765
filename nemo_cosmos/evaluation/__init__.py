"""One file a metric, and a registry of them."""

from nemo_cosmos.evaluation.pair.motion import (
    ActionGap,
    action_gap,
    flow_similarity,
    motion_following,
)
from nemo_cosmos.evaluation.pair.psnr import psnr, psnr_per_frame, repeat_first_frame_psnr
from nemo_cosmos.evaluation.pair.ssim import ssim
from nemo_cosmos.evaluation.registry import Metric, choose_metrics, evaluate_pair, metrics

__all__ = [
    "ActionGap",
    "Metric",
    "action_gap",
    "choose_metrics",
    "evaluate_pair",
    "flow_similarity",
    "metrics",
    "motion_following",
    "psnr",
    "psnr_per_frame",
    "repeat_first_frame_psnr",
    "ssim",
]
