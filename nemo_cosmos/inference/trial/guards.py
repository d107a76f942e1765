"""What guards did in a trial: a video that was refused has no other score, and yet counts.

The model is told each episode's own control. Of the videos that it made, or would have made but for
a guard, some were refused and some were changed. Both shares are over all of them, so that a model
whose worst videos are refused does not look the better for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nemo_cosmos.errors import GuardrailError
from nemo_cosmos.evaluation.metric import MeasuredMetric
from nemo_cosmos.evaluation.run import Scored

REFUSED = MeasuredMetric(
    name="guard_refused",
    higher_is_better=False,
    description="share of the videos that a guard refused; they have no other score",
    is_quality=False,
)
CHANGED = MeasuredMetric(
    name="guard_changed",
    higher_is_better=False,
    description="share of the videos that a guard changed, as the one that hides faces does",
    is_quality=False,
)


def guard_numbers(
    seeded: Sequence[Scored],
) -> tuple[dict[str, dict[str, float]], list[MeasuredMetric]]:
    """Numbers of each episode, the mean over its seeds.

    Args:
        seeded: the videos of the own control, for each seed. One that lacks a score for another
            reason than a guard's is left out: nobody knows what a guard would have said.

    Returns:
        the numbers by episode, and what each number is.
    """
    judged: dict[str, list[dict[str, float]]] = {}
    violations: set[tuple[str, str]] = set()
    for scored in seeded:
        for name, scores in scored.results.items():
            judged.setdefault(name, []).append({CHANGED.name: scores.scores[CHANGED.name]})
        for name, error in scored.refused.items():
            if isinstance(error, GuardrailError):
                named = {_name(one): 1.0 for one in error.violations}
                judged.setdefault(name, []).append({REFUSED.name: 1.0, **named})
                violations |= set(error.violations)
    by_kind = [_kind_metric(*one) for one in sorted(violations)]
    made = [REFUSED, *by_kind]
    numbers = {
        name: {
            metric.name: float(np.mean([video.get(metric.name, 0.0) for video in videos]))
            for metric in (*made, CHANGED)
        }
        for name, videos in judged.items()
    }
    return numbers, made


def _name(violation: tuple[str, str]) -> str:
    return ".".join((REFUSED.name, *violation))


def _kind_metric(guard: str, category: str) -> MeasuredMetric:
    return MeasuredMetric(
        name=_name((guard, category)),
        higher_is_better=False,
        description=f"share of the videos that '{guard}' refused as {category}",
        is_quality=False,
    )
