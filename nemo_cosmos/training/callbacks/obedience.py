"""Does the model obey what it is told? A curve while it trains, and perhaps the end of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.controls import ControlSpec, Values, get_controls
from nemo_cosmos.controls import controls_of as built_controls
from nemo_cosmos.errors import RequirementError, VideoError
from nemo_cosmos.evaluation.metric import Case, CaseMetric
from nemo_cosmos.evaluation.obedience import following_of, partners
from nemo_cosmos.evaluation.pair.motion import motion_following
from nemo_cosmos.evaluation.registry import choose_metrics
from nemo_cosmos.evaluation.statistics import Score, paired_difference
from nemo_cosmos.platform import on_first_process
from nemo_cosmos.training.callbacks.sampling import SamplingCallback
from nemo_cosmos.training.callbacks.world_sampler import (
    ExampleMaker,
    content_of,
    controls_of,
    set_for_sampling,
)

Follow = Callable[[np.ndarray, np.ndarray, Mapping[str, Any]], float]
"""From a video, the true one and its example to how well it follows the example's control."""


class Obedience(SamplingCallback, IOMixin):
    """Measure the sensitivity to the control every N steps.

    Examples of the validation data (of the training data where there are none) are generated from
    their first frame, told their own control and another example's; the sensitivity is what the own
    gains in following it (:mod:`nemo_cosmos.evaluation.obedience`): in motion following, or in the
    metric that the control names, such as a camera's path error. A loss may fall for days while the
    model ignores its control; this number stays at zero. Examples that the metric cannot say
    anything of, such as a camera that stands still, are left out.

    Logged: ``{control}_sensitivity`` with the ends ``_low`` and ``_high`` of its interval, to
    TensorBoard and, where the step is one that is logged, to ``metrics.jsonl``. The hooks are those
    of :class:`SamplingCallback`.

    Args:
        every_n_steps: how often; a multiple of ``trainer.log_every_n_steps``. 0 for never.
        num_episodes: how many examples; the interval needs several.
        seed: seed of the noise, the same at every step.
        options: the family's own choices by name, such as ``{"steps": 10}``.
        stop_after: from this step on, the run ends where the interval does not lie above zero; None
            to go on regardless.
    """

    without = "Training does not measure whether the model obeys"

    def __init__(
        self,
        every_n_steps: int = 0,
        num_episodes: int = 8,
        seed: int = 1,
        options: Mapping[str, Any] | None = None,
        stop_after: int | None = None,
    ) -> None:
        super().__init__(every_n_steps)
        self.num_episodes = num_episodes
        self.seed = seed
        self.options = dict(options or {})
        self.stop_after = stop_after

    def keep(self, trainer: pl.Trainer, model: pl.LightningModule, sampled: Any) -> None:
        """Log the sensitivity, and look whether it is enough.

        Raises:
            RequirementError: the model ignores its control after ``stop_after`` steps.
        """
        if sampled is None:
            self.turn_off("the model has no control")
            return
        name, score = sampled
        for suffix, value in (("", score.value), ("_low", score.low), ("_high", score.high)):
            if value is not None:
                model.log(f"{name}{suffix}", value, batch_size=1, rank_zero_only=False)
        step = trainer.global_step
        if self.stop_after is not None and step >= self.stop_after and not score.is_above_zero:
            raise RequirementError(_advice(step, name, score))

    def sample(self, trainer: pl.Trainer, model: pl.LightningModule) -> tuple[str, Score] | None:
        """The sensitivity's name and score; None for a model without a control.

        Raises:
            VideoError: the metric says nothing of any example.
        """
        with set_for_sampling(trainer, model):
            maker = ExampleMaker(model, self.seed, self.options)
            controls = maker.described.controls
            if not controls:
                return None
            examples = _of_one_kind(maker.examples(self.num_episodes), controls)
            follow = _follower(controls)
            following: list[list[float]] = []
            reason = ""
            for example, number in zip(examples, partners(len(examples)), strict=True):
                told = (None, controls_of(examples[number]))
                made = [maker.video(example, control) for control in told]
                found, reason = _measured(follow, made, maker.truth(example), example)
                following += [found] if found else []
            if not following:
                raise VideoError(reason)
        own_N, other_N = zip(*following, strict=True)
        name = "_".join(spec.name for spec in controls)
        return f"{name}_sensitivity", paired_difference(own_N, other_N)


def _measured(
    follow: Follow, made: Sequence[np.ndarray], truth_THWC: np.ndarray, example: Mapping[str, Any]
) -> tuple[list[float], str]:
    """How well each video follows; none, and why, where the metric says nothing of the example."""

    def measure() -> tuple[list[float], str]:
        try:
            return [follow(one, truth_THWC, example) for one in made], ""
        except VideoError as error:
            return [], str(error)

    # Structure from motion takes seconds and all cores, so one rank measures for all.
    return on_first_process(measure)


def _follower(controls: Sequence[ControlSpec]) -> Follow:
    """What says how well a video follows an example's own control; more is better.

    Args:
        controls: those of the model.
    """
    (metric,) = choose_metrics([following_of(controls)])
    if not isinstance(metric, CaseMetric):
        # The first frame is given, so that it says nothing.
        return lambda made, truth, _: motion_following(made[1:], truth[1:])
    sign = 1 if metric.higher_is_better else -1

    def follow(made: np.ndarray, truth: np.ndarray, example: Mapping[str, Any]) -> float:
        case = Case(str(example["key"]), made, truth, recorded=_recorded(controls, example))
        return sign * metric.measure(case)[0]

    return follow


def _recorded(controls: Sequence[ControlSpec], example: Mapping[str, Any]) -> dict[str, Values]:
    """The example's own signals by name, as metrics take them."""
    told = controls_of(example)
    return {
        signal.name: {
            array.name: told[signal.batch_key(array)]
            for array in signal.arrays
            if signal.batch_key(array) in told
        }
        for control in get_controls(spec.name for spec in controls)
        for signal in control.signals
    }


def _of_one_kind(
    examples: Sequence[dict[str, Any]], controls: Sequence[ControlSpec]
) -> list[dict[str, Any]]:
    """Examples whose controls fit each other: those of the first one's length and robot."""
    telling = [
        signal
        for control in built_controls(controls)
        for signal in control.signals
        if signal.kind_of is not None
    ]

    def kind(example: dict[str, Any]) -> list[object]:
        told = _recorded(controls, example) if telling else {}
        kinds = [one.kind_of(told[one.name]) for one in telling if one.kind_of is not None]
        return [content_of(example).shape[-3], *kinds]

    return [example for example in examples if kind(example) == kind(examples[0])]


def _advice(step: int, name: str, score: Score) -> str:
    return (
        f"After {step} steps {name} is {score}: what it is told does not show in its videos. "
        "Look at whether the control's files belong to their videos (length, order, rate, units), "
        "whether its mean and standard deviation are those of the data, and whether its embedder "
        "trains (learning rate, frozen layers). If it only needs longer, raise stop_after. The "
        "newest checkpoint is kept."
    )
