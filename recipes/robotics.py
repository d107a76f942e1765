"""Recipes of diffusion world models for robots: told actions, or an instruction.

All start from a Video2World model and its first frame. An action recipe adds the numbers of an
embodiment for each step between two frames; ``bridge_7`` unless its options name another. An
instruction recipe adds nothing: the instruction is the text, and one frame is given, so that the
text decides what follows. Bridge's published models see 57 frames of 256x320.
"""

from __future__ import annotations

import nemo_run as run

from recipes import common
from recipes.config import as_recipe
from recipes.controls import add_control
from recipes.diffusion import (
    diffusion_7b_video2world,
    diffusion_14b_video2world,
    diffusion_nano_video2world,
)


@as_recipe
def diffusion_nano_action(post_training: bool) -> run.Partial:
    """Nano Video2World, steered by robot actions; always starts from weights."""
    recipe = diffusion_nano_video2world(post_training=True)
    _add_actions(recipe, "diffusion_nano_action")
    recipe.model.controls[0].options["cumulative"] = True
    return recipe


@as_recipe
def diffusion_7b_action(post_training: bool) -> run.Partial:
    """Video2World, 7B, steered by robot actions; always starts from weights.

    lr 4e-4, batch 8 (published for Bridge), 10,000 steps with a warm-up of 2600 and a floor of
    4e-10 (the published NeMo factory).
    """
    return _large_action(diffusion_7b_video2world(post_training=True), "diffusion_7b_action")


@as_recipe
def diffusion_14b_action(post_training: bool) -> run.Partial:
    """Video2World, 14B, steered by robot actions; the numbers of :func:`diffusion_7b_action`."""
    return _large_action(diffusion_14b_video2world(post_training=True), "diffusion_14b_action")


@as_recipe
def diffusion_nano_instruction(post_training: bool) -> run.Partial:
    """Nano Video2World, told what a robot does; always starts from weights."""
    recipe = diffusion_nano_video2world(post_training=True)
    return _told_in_words(recipe, "diffusion_nano_instruction")


@as_recipe
def diffusion_7b_instruction(post_training: bool) -> run.Partial:
    """Video2World, 7B, told what a robot does; always starts from weights.

    How long and how fast the published model was trained on Bridge is not published. The numbers
    are those of :func:`diffusion_7b_video2world`.
    """
    recipe = diffusion_7b_video2world(post_training=True)
    return _told_in_words(recipe, "diffusion_7b_instruction")


@as_recipe
def diffusion_14b_instruction(post_training: bool) -> run.Partial:
    """Video2World, 14B, told what a robot does; see :func:`diffusion_7b_instruction`."""
    recipe = diffusion_14b_video2world(post_training=True)
    return _told_in_words(recipe, "diffusion_14b_instruction")


def _large_action(recipe: run.Partial, name: str) -> run.Partial:
    """Post-train a large model on actions, with the published numbers.

    Args:
        recipe: the Video2World recipe, changed in place.
        name: the new recipe's name.
    """
    _add_actions(recipe, name)
    recipe.optim = common.adamw(4e-4, warmup_steps=2600, min_lr=4e-10, eps=1e-10)
    recipe.trainer.max_steps = 10_000
    recipe.data.global_batch_size = 8
    return recipe


def _add_actions(recipe: run.Partial, name: str) -> None:
    """Let robot actions steer the model, and load them with the data."""
    add_control(recipe, recipe.model.preset, "action", common.action_options())
    recipe.log.name = name


def _told_in_words(recipe: run.Partial, name: str) -> run.Partial:
    """Give one latent frame, always, and leave the rest to the text."""
    conditioning = recipe.model.process.conditioning
    conditioning.min_condition_latents = conditioning.max_condition_latents = 1
    recipe.log.name = name
    return recipe
