"""One file a metric, and a registry of them."""

from nemo_cosmos.evaluation.motion import ActionGap, action_gap, flow_similarity, motion_following
from nemo_cosmos.evaluation.psnr import psnr, psnr_per_frame, repeat_first_frame_psnr
from nemo_cosmos.evaluation.registry import Metric, choose_metrics, evaluate_pair, metrics
from nemo_cosmos.evaluation.ssim import ssim

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
