"""The stages in which the published autoregressive models were trained (paper, section 5.3).

1. Videos of 17 frames, of which the first latent frame is given.
2. Stage 1.1: 33 frames (the paper counts 34), with positions extended by YaRN where the published
   model has it.
3. Stage 2: a text, which every layer attends to, and images beside the videos.
4. Cool-down: 30,000 steps on the best data, in which the learning rate falls in a line to 0.

Each but the first starts from the weights of the one before: ``finetune --factory ar_12b_stage_1_1
--from RUN``. Before its cool-down a stage keeps the learning rate where it is after the warm-up.
That, the learning rate of the later stages, and the share of images are ours.
"""

from __future__ import annotations

import nemo_run as run

from nemo_cosmos.models.autoregressive.model import TEXT_SETTINGS
from recipes import common
from recipes.autoregressive import PRE_TRAINING_LR, large
from recipes.config import as_recipe

COOL_DOWN_STEPS = 30_000
LATER_LR = 3e-4
LATER_WARMUP_STEPS = 1000
IMAGE_RATIO = 0.1
STAGE_1_LATENTS = 3
"""Latent frames of 17 frames, of which 8 make a latent one after the first."""


@as_recipe
def ar_4b_stage_1(post_training: bool) -> run.Partial:
    """Stage 1 of 4B: 17 frames."""
    return _first("ar_4b", post_training)


@as_recipe
def ar_4b_stage_1_1(post_training: bool) -> run.Partial:
    """Stage 1.1 of 4B: 33 frames, without YaRN, as the published model."""
    return _longer("ar_4b")


@as_recipe
def ar_4b_cool_down(post_training: bool) -> run.Partial:
    """Cool-down of 4B."""
    return _cool_down("ar_4b")


@as_recipe
def ar_12b_stage_1(post_training: bool) -> run.Partial:
    """Stage 1 of 12B: 17 frames, without YaRN."""
    return _first("ar_12b", post_training)


@as_recipe
def ar_12b_stage_1_1(post_training: bool) -> run.Partial:
    """Stage 1.1 of 12B: 33 frames, with YaRN."""
    return _longer("ar_12b")


@as_recipe
def ar_12b_cool_down(post_training: bool) -> run.Partial:
    """Cool-down of 12B."""
    return _cool_down("ar_12b")


@as_recipe
def ar_5b_video2world_stage_2(post_training: bool) -> run.Partial:
    """Stage 2 of 5B: a text, images and videos; from weights of 4B."""
    return _with_text("ar_5b_video2world")


@as_recipe
def ar_5b_video2world_cool_down(post_training: bool) -> run.Partial:
    """Cool-down of 5B."""
    return _cool_down("ar_5b_video2world")


@as_recipe
def ar_13b_video2world_stage_2(post_training: bool) -> run.Partial:
    """Stage 2 of 13B: a text, images and videos; from weights of 12B."""
    return _with_text("ar_13b_video2world")


@as_recipe
def ar_13b_video2world_cool_down(post_training: bool) -> run.Partial:
    """Cool-down of 13B."""
    return _cool_down("ar_13b_video2world")


def _first(preset: str, post_training: bool) -> run.Partial:
    recipe = large(preset, post_training, is_stage=True)
    recipe.model.config.max_frames = STAGE_1_LATENTS
    recipe.model.config.yarn_lengths_thw = None
    recipe.optim = _held(PRE_TRAINING_LR, warmup_steps=5000)
    recipe.log.name = f"{preset}_stage_1"
    return recipe


def _longer(preset: str) -> run.Partial:
    recipe = _later(preset)
    recipe.model.extends = ["max_frames", "yarn_lengths_thw"]
    recipe.log.name = f"{preset}_stage_1_1"
    return recipe


def _with_text(preset: str) -> run.Partial:
    recipe = _later(preset)
    recipe.model.extends = [*TEXT_SETTINGS, "top_p"]
    recipe.data.image_ratio = IMAGE_RATIO
    recipe.log.name = f"{preset}_stage_2"
    return recipe


def _cool_down(preset: str) -> run.Partial:
    recipe = _later(preset)
    recipe.trainer.max_steps = COOL_DOWN_STEPS
    common.decay_to_zero(recipe.optim)
    recipe.log.name = f"{preset}_cool_down"
    return recipe


def _later(preset: str) -> run.Partial:
    """A stage that starts from weights."""
    recipe = large(preset, post_training=True, is_stage=True)
    recipe.optim = _held(LATER_LR, warmup_steps=LATER_WARMUP_STEPS)
    return recipe


def _held(lr: float, warmup_steps: int) -> run.Config:
    """AdamW whose learning rate stays, until a cool-down."""
    return common.adamw(lr, warmup_steps=warmup_steps, weight_decay=0.05, betas=(0.9, 0.95))
