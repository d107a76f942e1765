"""Does the model obey what it is told? A curve while it trains, and perhaps the end of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.errors import RequirementError
from nemo_cosmos.evaluation.obedience import partners
from nemo_cosmos.evaluation.pair.motion import motion_following
from nemo_cosmos.evaluation.statistics import Score, paired_difference
from nemo_cosmos.training.callbacks.sampling import SamplingCallback
from nemo_cosmos.training.callbacks.world_sampler import (
    ExampleMaker,
    content_of,
    controls_of,
    set_for_sampling,
)


class Obedience(SamplingCallback, IOMixin):
    """Measure the sensitivity to the control every N steps.

    Examples of the validation data (of the training data where there are none) are generated from
    their first frame, told their own control and another example's; the sensitivity is what the own
    gains in motion following (:mod:`nemo_cosmos.evaluation.obedience`). A loss may fall for days
    while the model ignores its control; this number stays at zero.

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
        """The sensitivity's name and score; None for a model without a control."""
        with set_for_sampling(trainer, model):
            maker = ExampleMaker(model, self.seed, self.options)
            controls = maker.described.controls
            if not controls:
                return None
            examples = _of_one_shape(maker.examples(self.num_episodes))
            following: list[tuple[float, float]] = []
            for example, number in zip(examples, partners(len(examples)), strict=True):
                truth_THWC = maker.truth(example)[1:]
                own, other = (
                    motion_following(maker.video(example, told)[1:], truth_THWC)
                    for told in (None, controls_of(examples[number]))
                )
                following.append((own, other))
        own_N, other_N = zip(*following, strict=True)
        name = "_".join(spec.name for spec in controls)
        return f"{name}_sensitivity", paired_difference(own_N, other_N)


def _of_one_shape(examples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Examples whose controls fit each other: those of the first one's length."""
    length = content_of(examples[0]).shape[-3] if examples else 0
    return [example for example in examples if content_of(example).shape[-3] == length]


def _advice(step: int, name: str, score: Score) -> str:
    return (
        f"After {step} steps {name} is {score}: what it is told does not show in its videos. "
        "Look at whether the control's files belong to their videos (length, order, rate, units), "
        "whether its mean and standard deviation are those of the data, and whether its embedder "
        "trains (learning rate, frozen layers). If it only needs longer, raise stop_after. The "
        "newest checkpoint is kept."
    )
