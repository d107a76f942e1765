"""Put the scores of a trial together: the mean over seeds, and what other controls show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nemo_cosmos.checkpoint.world.config import WorldConfig
from nemo_cosmos.evaluation.cases import CaseScores
from nemo_cosmos.evaluation.metric import (
    CaseMetric,
    MeasuredMetric,
    Metric,
    PairMetric,
    VideoMetric,
)
from nemo_cosmos.evaluation.obedience import (
    DOSES,
    FOLLOWING,
    OTHER,
    OWN,
    dose_response,
    obedience,
    sensitivity_name,
)
from nemo_cosmos.evaluation.registry import choose_metrics
from nemo_cosmos.evaluation.run import Scored
from nemo_cosmos.evaluation.scoring import Evaluation, summarise
from nemo_cosmos.inference.trial.guards import REFUSED, guard_numbers
from nemo_cosmos.inference.trial.videos import MEASURED, MOTION_AMOUNT, NUM_GIVEN


def trial_evaluation(
    told: Mapping[str, Sequence[Scored]],
    metrics: Sequence[Metric],
    control: str,
    optional: frozenset[str] = frozenset(),
    following: str = FOLLOWING,
) -> Evaluation:
    """The scores of the own control, and beside them what the others show.

    Args:
        told: the scored videos of each seed, by what the model was told.
        metrics: the metrics of the own control.
        control: the name of the model's controls together.
        optional: names of metrics that may be left out where they cannot be computed.
        following: the metric that says how well a video follows.

    Raises:
        InputError: no own video can be scored, or there are too few for a set metric.
    """
    for scored in told[OWN.name]:
        scored.require()
    # What no episode could be told is left out; the rest shows what it can.
    impossible = {
        f"told {name}": str(next(iter(scored.refused.values())))
        for name, seeded in told.items()
        for scored in seeded
        if not scored.results
    }
    told = {name: seeded for name, seeded in told.items() if f"told {name}" not in impossible}
    clips = {name: _mean_over_seeds(seeded) for name, seeded in told.items()}
    own = clips[OWN.name]
    skipped: dict[str, str] = {}
    for one in (OWN.name, *told):  # what is wrong with its own video is wrong with the recording
        for scored in told[one]:
            for name, error in scored.refused.items():
                skipped.setdefault(name, str(error) if one == OWN.name else f"{one}: {error}")
    guarded, of_guards = guard_numbers(told[OWN.name])
    if len(told) == 1:
        whole = summarise(_with(own, guarded), [*metrics, *of_guards], NUM_GIVEN, optional)
        return replace(whole, skipped=skipped, not_computed={**whole.not_computed, **impossible})
    compared = [metric for metric in metrics if is_compared(metric)]
    numbers, made = obedience(clips, compared, control, following)
    doses = [one.name for one in (OWN, *DOSES) if one.name in clips]
    if len(doses) > 2:
        made.append(_dose_metric(control))
        for name in numbers:
            amounts = {dose: clips[dose][name].scores[MOTION_AMOUNT.name] for dose in doses}
            numbers[name][made[-1].name] = dose_response(amounts)
    complete = {
        name: replace(own[name], scores=own[name].scores | more) for name, more in numbers.items()
    }
    every = [*metrics, *of_guards, *made]
    whole = summarise(_with(complete, guarded), every, NUM_GIVEN, optional)
    return replace(whole, skipped=skipped, not_computed={**whole.not_computed, **impossible})


def _with(
    clips: Mapping[str, CaseScores], numbers: Mapping[str, Mapping[str, float]]
) -> dict[str, CaseScores]:
    """The scores with the guards' numbers, also of episodes that have no other."""
    refused = [name for name in numbers if name not in clips and numbers[name][REFUSED.name] > 0]
    return {
        name: replace(clip, scores=clip.scores | dict(numbers.get(name, {})))
        for name, clip in (*clips.items(), *((name, CaseScores()) for name in refused))
    }


def score_names(
    metrics: Sequence[Metric], control: str, told: Sequence[str], following: str = FOLLOWING
) -> list[str]:
    """Names of all scores of a trial.

    Args:
        metrics: the metrics.
        control: the name of the model's control; empty for none.
        told: names of what the model is told besides its own control.
        following: the metric that says how well a video follows.
    """
    names = [*(metric.name for metric in metrics), REFUSED.name]
    compared = [metric for metric in metrics if is_compared(metric)]
    names += [f"{metric.name}.{name}" for name in told for metric in compared]
    if OTHER.name in told:
        names += [
            sensitivity_name(control, one.name, following) for one in compared if one.is_quality
        ]
    if control and len(set(told) & {dose.name for dose in DOSES}) > 1:
        names.append(_dose_metric(control).name)
    return names


def control_name(world: WorldConfig) -> str:
    """The name of a world's controls together; empty for none."""
    return "_".join(spec.name for spec in world.controls)


def trial_metrics(names: Sequence[str], following: str) -> list[Metric]:
    """The metrics of a trial: those that were chosen, else the default ones and the following.

    Args:
        names: names of metrics; none for the default ones.
        following: the metric that says how well a video follows.
    """
    chosen = choose_metrics(names or None)
    if not names and following not in {metric.name for metric in chosen}:
        chosen += choose_metrics([following])
    return [*chosen, *MEASURED]


def is_compared(metric: Metric) -> bool:
    """Whether videos that were told different controls are compared by it."""
    of_one_video = isinstance(metric, PairMetric | VideoMetric | CaseMetric | MeasuredMetric)
    return of_one_video and (metric.is_quality or metric == MOTION_AMOUNT)


def _mean_over_seeds(seeded: Sequence[Scored]) -> dict[str, CaseScores]:
    """The mean of each episode's numbers over the seeds.

    Episodes count once, however many seeds they were generated with: their seeds are not
    independent of each other. Curves, features and words are those of the first seed.
    """
    first = seeded[0].results
    if len(seeded) == 1:
        return first
    clips: dict[str, CaseScores] = {}
    for name in first:
        if not all(name in scored.results for scored in seeded):
            continue
        of_seeds = [scored.results[name] for scored in seeded]
        shared = set.intersection(*(set(one.scores) for one in of_seeds))
        clips[name] = replace(
            first[name],
            scores={
                metric: float(np.mean([one.scores[metric] for one in of_seeds]))
                for metric in first[name].scores
                if metric in shared
            },
            lacking={metric: why for one in of_seeds for metric, why in one.lacking.items()},
        )
    return clips


def _dose_metric(control: str) -> MeasuredMetric:
    return MeasuredMetric(
        name=f"{control}_dose_response",
        higher_is_better=True,
        description="Spearman's correlation of the amount of motion with the factor on the "
        f"{control}: 1 where more of it always moves more",
    )
