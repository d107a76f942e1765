"""A control in a recipe: in the model, in the data, and in what training measures."""

from __future__ import annotations

from collections.abc import Mapping

import nemo_run as run

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.models.diffusion.controls import TokenizerFacts
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from recipes import common
from recipes.config import Config


def add_control(recipe: run.Partial, preset: str, name: str, options: Mapping[str, object]) -> None:
    """Let a control steer the model, load it with the data, and measure whether it is obeyed.

    Args:
        recipe: the recipe, changed in place.
        preset: the model's preset.
        name: the control's name.
        options: what its embedder is built with.
    """
    tokenizer = TOKENIZERS[DIFFUSION[preset].tokenizer]
    recipe.model.controls = [Config(ControlSpec, name=name, options=dict(options))]
    recipe.model.tokenizer = Config(
        TokenizerFacts,
        temporal_factor=tokenizer.temporal_factor,
        spatial_factor=tokenizer.spatial_factor,
    )
    # A control says how what the first frame shows moves on; without that frame it says little.
    recipe.model.process.conditioning.min_condition_latents = 1
    recipe.data.controls = [name]
    # A loss falls whether or not the model listens; this number does not.
    is_nano = "nano" in preset
    recipe.trainer.callbacks.append(
        common.obedience(400, num_episodes=4) if is_nano else common.obedience(1000)
    )
