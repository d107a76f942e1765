"""Recipes of the diffusion world models for several synchronous cameras.

How many cameras, which and where is in the data: the network takes one to seven views, each with a
name, and a rig where the data have one. The recipes are those of one camera, with a table of names,
and start from weights of one camera or of several. The published multi-view models are trained on
six cameras of 57 frames; how long and how fast is not published.
"""

from __future__ import annotations

import nemo_run as run

from recipes.config import as_recipe
from recipes.controls import add_control
from recipes.diffusion import (
    diffusion_7b_text2world,
    diffusion_7b_video2world,
    diffusion_nano_text2world,
    diffusion_nano_video2world,
)
from recipes.layouts import Split

VIEW_SLOTS = (
    "front", "left", "right", "rear", "rear_left", "rear_right",
    "front_left", "front_right", "front_tele",
)  # fmt: skip
"""Names of a car's cameras that have a row of their own; all others share one."""
SPLIT_7B = Split(tp=1, cp=8, fsdp=True)
"""The planner expects 67 GB on each of 32 GPUs."""
NAME_DROPOUT = 0.2
"""Share of views whose names training hides, so that a camera without a name of its own works."""


@as_recipe
def diffusion_nano_multiview(post_training: bool) -> run.Partial:
    """Nano Video2World of several cameras: first frames of all, or one whole view, are given."""
    recipe = diffusion_nano_video2world(post_training=post_training)
    return _of_several_cameras(recipe, "diffusion_nano_multiview")


@as_recipe
def diffusion_nano_multiview_text2world(post_training: bool) -> run.Partial:
    """Nano Text2World of several cameras."""
    recipe = diffusion_nano_text2world(post_training=post_training)
    return _of_several_cameras(recipe, "diffusion_nano_multiview_text2world")


@as_recipe
def diffusion_nano_multiview_driving(post_training: bool) -> run.Partial:
    """Nano Video2World of several cameras, steered by a car's path; starts from weights."""
    recipe = diffusion_nano_multiview(post_training=True)
    return _with_driving(recipe, "diffusion_nano_multiview_driving")


@as_recipe
def diffusion_nano_multiview_layout(post_training: bool) -> run.Partial:
    """Nano world of several cameras, steered by layout videos; starts from weights."""
    recipe = diffusion_nano_multiview(post_training=True)
    return _with_layout(recipe, "diffusion_nano_multiview_layout")


@as_recipe
def diffusion_7b_multiview(post_training: bool) -> run.Partial:
    """Video2World of several cameras, 7B; see :func:`diffusion_nano_multiview`.

    Six cameras of 57 frames and 480x848 are 76,320 tokens a sample, a third more than one camera's
    longest; the layout of that would leave no memory of 80 GB.
    """
    recipe = diffusion_7b_video2world(post_training=post_training)
    return _of_several_cameras(_spread(recipe), "diffusion_7b_multiview")


@as_recipe
def diffusion_7b_multiview_text2world(post_training: bool) -> run.Partial:
    """Text2World of several cameras, 7B."""
    recipe = diffusion_7b_text2world(post_training=post_training)
    return _of_several_cameras(_spread(recipe), "diffusion_7b_multiview_text2world")


@as_recipe
def diffusion_7b_multiview_driving(post_training: bool) -> run.Partial:
    """Video2World of several cameras, 7B, steered by a car's path; starts from weights."""
    recipe = diffusion_7b_multiview(post_training=True)
    return _with_driving(recipe, "diffusion_7b_multiview_driving")


@as_recipe
def diffusion_7b_multiview_layout(post_training: bool) -> run.Partial:
    """World of several cameras, 7B, steered by layout videos; starts from weights."""
    recipe = diffusion_7b_multiview(post_training=True)
    return _with_layout(recipe, "diffusion_7b_multiview_layout")


def _of_several_cameras(recipe: run.Partial, name: str) -> run.Partial:
    """Let the network take several views.

    Args:
        recipe: a recipe of one camera, changed in place.
        name: the new recipe's name.
    """
    recipe.model.config.view_slots = VIEW_SLOTS
    views = recipe.model.process.views
    views.name_dropout = NAME_DROPOUT
    # Text2World has no mask that could tell a given view.
    views.max_given = 1 if recipe.model.config.condition_mask else 0
    recipe.log.name = name
    return recipe


def _spread(recipe: run.Partial) -> run.Partial:
    """Spread a 7B recipe over GPUs of 80 GB: the planner's fastest layout for six cameras."""
    strategy = recipe.trainer.strategy
    strategy.tensor_model_parallel_size, strategy.sequence_parallel = SPLIT_7B.tp, SPLIT_7B.tp > 1
    strategy.context_parallel_size = SPLIT_7B.cp
    strategy.fsdp = "megatron" if SPLIT_7B.fsdp else None
    return recipe


def _with_driving(recipe: run.Partial, name: str) -> run.Partial:
    """Let a car's path and the rig of its cameras steer the model."""
    add_control(recipe, recipe.model.preset, "driving", {})
    recipe.log.name = name
    return recipe


def _with_layout(recipe: run.Partial, name: str) -> run.Partial:
    """Let what a map draws into each picture steer the model, with first frames or without."""
    add_control(recipe, recipe.model.preset, "layout", {})
    recipe.model.process.conditioning.min_condition_latents = 0
    recipe.log.name = name
    return recipe
