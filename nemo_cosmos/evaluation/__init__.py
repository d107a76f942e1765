"""Metrics of generated videos: of a pair, of a set, by a judge; runs over folders; reports.

``evaluate_pair`` and ``evaluate_cases`` take frames in memory, ``evaluate_folders`` takes files,
and ``write_report`` shows the result. The room knows no world model: whoever generates, scores.
"""

from nemo_cosmos.evaluation.cases import CaseScores, score_cases
from nemo_cosmos.evaluation.files.folders import Comparison, compare_folders, evaluate_folders
from nemo_cosmos.evaluation.files.matching import match_videos, read_prompts
from nemo_cosmos.evaluation.files.pairs import Alignment
from nemo_cosmos.evaluation.metric import (
    Case,
    CaseMetric,
    Features,
    Judgement,
    JudgeMetric,
    Metric,
    PairMetric,
    SetMetric,
    VideoMetric,
)
from nemo_cosmos.evaluation.pair.motion import flow_similarity, motion_following
from nemo_cosmos.evaluation.pair.psnr import psnr, psnr_per_frame, repeat_first_frame_psnr
from nemo_cosmos.evaluation.pair.ssim import ssim
from nemo_cosmos.evaluation.record import make_record, read_record
from nemo_cosmos.evaluation.registry import choose_metrics, metrics
from nemo_cosmos.evaluation.report import scores_table, write_report
from nemo_cosmos.evaluation.scoring import (
    Evaluation,
    evaluate_cases,
    evaluate_pair,
    summarise,
)
from nemo_cosmos.evaluation.statistics import Score, mean_score, paired_difference

__all__ = [
    "Alignment",
    "Case",
    "CaseMetric",
    "CaseScores",
    "Comparison",
    "Evaluation",
    "Features",
    "JudgeMetric",
    "Judgement",
    "Metric",
    "PairMetric",
    "Score",
    "SetMetric",
    "VideoMetric",
    "choose_metrics",
    "compare_folders",
    "evaluate_cases",
    "evaluate_folders",
    "evaluate_pair",
    "flow_similarity",
    "make_record",
    "match_videos",
    "mean_score",
    "metrics",
    "motion_following",
    "paired_difference",
    "psnr",
    "psnr_per_frame",
    "read_prompts",
    "read_record",
    "repeat_first_frame_psnr",
    "score_cases",
    "scores_table",
    "ssim",
    "summarise",
    "write_report",
]
