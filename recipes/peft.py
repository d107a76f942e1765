"""``peft_scheme=lora`` on any recipe of a world model: adapters are trained instead of all weights.

What changes of a recipe besides is here: an adapter takes a larger learning rate than the weights,
and needs no weight decay, since it starts at zero.
"""

from __future__ import annotations

import fiddle as fdl
import nemo_run as run

from nemo_cosmos import api
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.training.adapters.lora import LoRA
from recipes.config import Config

SCHEMES = ("lora", "none")
LEARNING_RATE = 4.0
"""Learning rate of an adapter over that of training all weights."""


def use_peft(recipe: run.Partial, scheme: str) -> None:
    """Let a recipe train adapters.

    Args:
        recipe: a recipe for post-training, changed in place.
        scheme: ``"lora"``, or ``"none"`` for all weights.

    Raises:
        ConfigError: an unknown scheme, or a recipe that has no starting weights or no layers.
    """
    if scheme.lower() in ("none", "null", ""):
        return
    if scheme not in SCHEMES:
        raise ConfigError(
            f"There is no peft_scheme '{scheme}'. Valid are {', '.join(SCHEMES)}: adapters, or all "
            "weights."
        )
    if fdl.get_callable(recipe) is not api.finetune:
        raise ConfigError(
            "peft_scheme=lora trains adapters of given weights, and 'pretrain' has none. Use "
            "'nemo-cosmos finetune --from WEIGHTS', or leave it out."
        )
    if not hasattr(fdl.get_callable(recipe.model), "family"):
        raise ConfigError(
            "peft_scheme=lora is for world models; a tokenizer has no layers for adapters. Leave "
            "it out."
        )
    recipe.peft = Config(LoRA)
    optim = recipe.optim.config
    optim.lr *= LEARNING_RATE
    optim.weight_decay = 0.0
    schedule = recipe.optim.lr_scheduler
    if getattr(schedule, "min_lr", None):
        schedule.min_lr *= LEARNING_RATE
