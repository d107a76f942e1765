"""Named sets of metrics, so that a person asks a question and not for eight names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.evaluation.benchmarks.protocols import METRICS as BENCHMARK_METRICS
from nemo_cosmos.evaluation.benchmarks.protocols import PROTOCOLS
from nemo_cosmos.evaluation.registry import choose_metrics, default_motion

SUITES: Mapping[str, tuple[str, ...]] = {
    "visual": ("psnr", "ssim", "lpips_vgg", "lpips_alex"),
    "tokenizer": (
        "psnr",
        "ssim",
        "lpips_vgg",
        "code_usage",
        "code_perplexity",
        "kvd_i3d",
        "fvd_i3d",
    ),
    **dict.fromkeys(PROTOCOLS, BENCHMARK_METRICS),
    "camera": (
        "sampson_sift",
        "given_camera_sampson_sift",
        "camera_pose_success",
        "camera_rotation_error_deg",
        "camera_translation_error",
        "camera_path_error",
        "aligned_success",
        "aligned_rotation_error_deg",
        "aligned_position_error_cm",
        "psnr",
        "ssim",
        "motion_margin",
    ),
    "driving": (
        "sampson_sift",
        "cross_view_sampson_sift",
        "cross_view_given_camera_sift",
        "cross_view_agreement_sift",
        "given_camera_sampson_sift",
        "trajectory_error_cm",
        "trajectory_rpe_cm",
        "trajectory_rpe_deg",
        "failure_rate",
        "psnr",
        "ssim",
    ),
    "physics": (
        "psnr",
        "ssim",
        "psnr_repeat_first",
        "feature_similarity_efficientnet_lite0",
        "object_iou",
        "energy_error",
        "energy_drift",
        "momentum_error",
        "support_error",
        "object_permanence",
        "counterfactual_margin",
    ),
    "robotics": (
        "psnr",
        "ssim",
        "psnr_repeat_first",
        "motion_margin",
        "motion_following",
        "flow_similarity",
        "gripper_error",
        "gripper_end_error",
        "gripper_error_cm",
        "gripper_end_error_cm",
        "gripper_seen",
        "object_error",
        "object_error_cm",
        "object_seen",
        "failure_rate",
    ),
}
"""Suite -> its metrics, in the order of the report."""


def suite(name: str) -> tuple[str, ...]:
    """Return the metrics of a suite.

    Raises:
        ConfigError: there is no such suite.
    """
    if name not in SUITES:
        raise ConfigError(
            f"There is no suite '{name}'. The nearest are {nearest_names(name, SUITES)}; all: "
            f"{', '.join(SUITES)}."
        )
    return SUITES[name]


@dataclass(frozen=True)
class Chosen:
    """The metrics that someone asked for.

    Attributes:
        names: their names; none for the default ones.
        optional: those that only a suite named, or nobody. A suite asks a question, and answers it
            with what can be computed of the data; a metric that was named itself must be.
    """

    names: tuple[str, ...]
    optional: frozenset[str] = frozenset()


def chosen_names(
    names: Sequence[str], suite_name: str | None, required: Sequence[str] = ()
) -> Chosen:
    """Return the metrics that someone asked for in any way.

    Args:
        names: single metrics.
        suite_name: a suite.
        required: metrics that a requirement names; they are computed, too.

    Raises:
        ConfigError: there is no such suite.
    """
    of_suite = suite(suite_name) if suite_name is not None else ()
    asked = [*of_suite, *names]
    if not asked and required:
        asked = [metric.name for metric in choose_metrics()]
        of_suite = tuple(default_motion())
    must = {*names, *required}
    # Nobody named the default ones, either.
    optional = (frozenset(of_suite) if asked else default_motion()) - must
    return Chosen(tuple(dict.fromkeys([*asked, *required])), optional)
