"""Does a model obey its control? Tell it something else, and see whether its videos care.

A model can have a good loss and good pictures and ignore what it is told: right and shuffled
actions then give the same video. So each episode is generated several times from the same first
frame and the same noise, *told* its own control, another episode's, or its own multiplied by a
factor. What following its own control gains over following another's is the **sensitivity**. It is
paired by episode, so that its interval is as narrow as the data allow. A model that ignores its
control has a sensitivity around zero, whatever its pictures look like.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from nemo_cosmos.controls import ControlSpec, Signal, controls_of
from nemo_cosmos.errors import InputError
from nemo_cosmos.evaluation.cases import CaseScores
from nemo_cosmos.evaluation.episode import EpisodeSource
from nemo_cosmos.evaluation.metric import MeasuredMetric, Metric

PARTNER_SEED = 0
FOLLOWING = "motion_following"
"""The metric that says how well a video follows, unless a control brings its own."""


@dataclass(frozen=True)
class Told:
    """What a model is told in place of an episode's own control.

    Attributes:
        name: its name in scores and folders.
        is_own: whether it is the episode's own control, else another episode's.
        scale: factor on the control.
    """

    name: str
    is_own: bool = True
    scale: float = 1.0


OWN = Told("own")
OTHER = Told("other", is_own=False)
DOSES = (Told("x0", scale=0.0), Told("x0.5", scale=0.5), Told("x1.5", scale=1.5))
"""The control switched off, halved, and exaggerated."""


def partners(
    num: int, seed: int = PARTNER_SEED, kinds: Sequence[str] | None = None
) -> NDArray[np.intp]:
    """For each episode the number of another one of its kind, each used once.

    Args:
        num: how many episodes there are.
        seed: seed of the pairing.
        kinds: the kind of each episode, such as which robot's actions it has; None where they are
            of one kind.

    Raises:
        InputError: there is one episode, or one of a kind, which has no other.
    """
    kinds = kinds if kinds is not None else [""] * num
    found = np.empty(num, np.intp)
    for kind in sorted(set(kinds)) or [""]:
        of_kind = np.array([n for n in range(num) if kinds[n] == kind], np.intp)
        if len(of_kind) < 2:
            of = f" of '{kind}'" if kind else ""
            raise InputError(
                "Whether a model obeys is seen by telling it another episode's control, and there "
                f"is one episode{of}. Evaluate at least two; eight or more give a useful interval."
            )
        order = of_kind[np.random.default_rng(seed).permutation(len(of_kind))]
        found[order] = np.roll(order, 1)  # a cycle through all: nobody meets itself
    return found


def partners_of(episodes: Sequence[EpisodeSource], signals: Sequence[Signal]) -> NDArray[np.intp]:
    """For each recording the number of the one whose control may stand for its own.

    Args:
        episodes: the recordings.
        signals: the signals of the model's controls.

    Raises:
        InputError: as :func:`partners`.
    """
    if all(signal.kind_of is None for signal in signals):
        return partners(len(episodes))
    kinds = [_kind(episode, signals) for episode in episodes]
    usual = next((kind for kind in kinds if kind), "")
    return partners(len(episodes), kinds=[kind or usual for kind in kinds])


def _kind(episode: EpisodeSource, signals: Sequence[Signal]) -> str:
    """What kind of control a recording has; empty where it cannot be read, and is left out."""
    try:
        told = episode.read_control()
    except InputError:
        return ""
    return " ".join(one.kind_of(told[one.name]) for one in signals if one.kind_of is not None)


def obedience(
    clips: Mapping[str, Mapping[str, CaseScores]],
    metrics: Sequence[Metric],
    control: str,
    following: str = FOLLOWING,
) -> tuple[dict[str, dict[str, float]], list[MeasuredMetric]]:
    """Numbers of each episode that compare what it was told.

    Args:
        clips: for each :class:`Told` by name, the scores of each episode. Episodes that lack one of
            them are left out.
        metrics: the metrics in the scores.
        control: the control's name, for the names of the numbers.
        following: the metric that says how well a video follows.

    Returns:
        the numbers by episode, and what each number is.
    """
    episodes = [name for name in clips[OWN.name] if all(name in found for found in clips.values())]
    numbers: dict[str, dict[str, float]] = {name: {} for name in episodes}
    made: list[MeasuredMetric] = []

    def add(about: MeasuredMetric, found: Mapping[str, float]) -> None:
        if found:  # a metric that could be left out may have been, of every episode
            made.append(about)
            for name, number in found.items():
                numbers[name][about.name] = number

    def scores(told: str, metric: str) -> dict[str, float]:
        of_each = {name: clips[told][name].scores for name in episodes}
        return {name: found[metric] for name, found in of_each.items() if metric in found}

    for told in (name for name in clips if name != OWN.name):
        for metric in metrics:
            add(_told_metric(metric, told, control), scores(told, metric.name))
    for metric in (metric for metric in metrics if OTHER.name in clips and metric.is_quality):
        own, other = scores(OWN.name, metric.name), scores(OTHER.name, metric.name)
        sign = 1 if metric.higher_is_better else -1
        gained = {name: sign * (own[name] - other[name]) for name in own if name in other}
        add(_sensitivity_metric(metric, control, following), gained)
    return numbers, made


def following_of(controls: Iterable[ControlSpec]) -> str:
    """The metric that says how well a model's videos follow; of several controls, the motion.

    Args:
        controls: the model's controls.
    """
    found = controls_of(controls)
    return found[0].following if len(found) == 1 else FOLLOWING


def dose_response(amounts: Mapping[str, float]) -> float:
    """Whether more of a control gives more motion: Spearman's correlation over the doses.

    Args:
        amounts: the amount of motion by what was told, for :data:`OWN` and all :data:`DOSES`.

    Returns:
        1 where motion grows with every dose; 0 where all doses give the same.
    """
    by_dose = [(told.scale, amounts[told.name]) for told in (*DOSES, OWN) if told.name in amounts]
    scales, found = zip(*by_dose, strict=True)
    if np.ptp(found) == 0:
        return 0.0
    return float(spearmanr(scales, found).statistic)


def sensitivity_name(control: str, metric: str, following: str = FOLLOWING) -> str:
    """The name of a sensitivity: ``action_sensitivity``, ``action_sensitivity_psnr``."""
    return f"{control}_sensitivity" + ("" if metric == following else f"_{metric}")


def _told_metric(metric: Metric, told: str, control: str) -> MeasuredMetric:
    words = "another episode's control" if told == OTHER.name else f"its own control {told}"
    return MeasuredMetric(
        name=f"{metric.name}.{told}",
        description=f"{metric.name} of the video that was told {words} ({control})",
        higher_is_better=metric.higher_is_better,
        unit=metric.unit,
        is_quality=metric.is_quality,
    )


def _sensitivity_metric(metric: Metric, control: str, following: str) -> MeasuredMetric:
    return MeasuredMetric(
        name=sensitivity_name(control, metric.name, following),
        description=f"what the own {control} gains over another episode's in {metric.name}; 0 "
        "where the model ignores it",
        higher_is_better=True,
        unit=metric.unit,
    )
