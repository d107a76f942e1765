"""Named sets of metrics, so that a person asks a question and not for eight names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.evaluation.registry import choose_metrics

SUITES: Mapping[str, tuple[str, ...]] = {
    "visual": ("psnr", "ssim", "lpips_vgg"),
    "tokenizer": ("psnr", "ssim"),
    "camera": ("sampson_sift", "psnr", "ssim", "motion_margin"),
    "robotics": (
        "psnr",
        "ssim",
        "psnr_repeat_first",
        "motion_margin",
        "motion_following",
        "flow_similarity",
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


def chosen_names(
    names: Sequence[str], suite_name: str | None, required: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the metrics that someone asked for in any way; none for the default ones.

    Args:
        names: single metrics.
        suite_name: a suite.
        required: metrics that a requirement names; they are computed, too.

    Raises:
        ConfigError: there is no such suite.
    """
    asked = [*(suite(suite_name) if suite_name is not None else ()), *names]
    if not asked and required:
        asked = [metric.name for metric in choose_metrics()]
    return tuple(dict.fromkeys([*asked, *required]))
