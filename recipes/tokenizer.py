"""Recipes of the tokenizers: one for each preset, through one function.

Training numbers are those of the published training code (Cosmos-Tokenize1): Adam at 1e-4 with
betas 0.5 and 0.999, weight decay 0.01, warm-up 5000, crops of 256 pixels, a batch of one video, L1
with perceptual, Gram and flow terms in stages. The nano ones are ours.
"""

from __future__ import annotations

import functools
from typing import Any

import nemo_run as run

from nemo_cosmos.data.modules import VideoDataModule
from nemo_cosmos.models.tokenizer.losses import (
    COSMOS_LOSSES,
    POST_TRAINING_LOSSES,
    LossConfig,
    LossSchedule,
)
from nemo_cosmos.models.tokenizer.model import TokenizerModel
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from recipes import common
from recipes.config import Config, as_recipe

CROP_PIXELS = 256
# VGG16 takes more operations on two frames than the nano network on all seventeen, so the first
# thousand steps, which learn the most, do without. The squared term brings small coloured things
# out: in 700 steps on robot episodes, 26.9 dB instead of 25.5.
NANO_LOSSES = LossConfig(
    squared=LossSchedule((4.0,)), perceptual=LossSchedule((0.0, 0.1), (1000,)), vgg_frames=2
)
NANO_SAVE_INTERVAL_S = 150.0


def tokenizer(preset: str, post_training: bool = False) -> run.Partial:
    """Train a tokenizer of the family on curated clips.

    Args:
        preset: key of ``TOKENIZERS``.
        post_training: whether to start from given weights, with L1 and perceptual terms alone.
    """
    config = TOKENIZERS[preset]
    is_image = config.kind == "image"
    return common.task(
        model=Config(
            TokenizerModel,
            config=common.as_config(config),
            losses=common.as_config(POST_TRAINING_LOSSES if post_training else COSMOS_LOSSES),
        ),
        data=Config(
            VideoDataModule,
            path="",
            num_frames=config.training_frames,
            size=(CROP_PIXELS, CROP_PIXELS),
            # Windows of one frame are images, whether they are cut from videos or not.
            image_ratio=0.0 if is_image else 0.2,
            micro_batch_size=1,
            global_batch_size=8,
            num_workers=4,
        ),
        trainer=common.trainer(
            10_000 if post_training else 1_000_000, devices=8, ema=common.ema(decay=0.9999)
        ),
        optim=common.adamw(1e-4, warmup_steps=5000, weight_decay=0.01, betas=(0.5, 0.999)),
        log=common.log(preset, every_n_train_steps=1000),
        post_training=post_training,
    )


def tokenizer_nano(preset: str, post_training: bool = False) -> run.Partial:
    """The nano tokenizers, which train in minutes on a CPU: small crops, a higher learning rate.

    Args:
        preset: key of ``TOKENIZERS``.
        post_training: whether to start from given weights.
    """
    recipe = tokenizer(preset, post_training)
    recipe.model.losses = common.as_config(NANO_LOSSES)
    recipe.model.stats_batches = 32
    recipe.data.size = (96, 128)
    recipe.data.image_ratio = 0.0 if TOKENIZERS[preset].kind == "image" else 0.05
    recipe.data.global_batch_size = 1
    recipe.data.num_workers = 0
    recipe.trainer = common.trainer(1500, precision="32", ema=common.ema(decay=0.99))
    recipe.optim = common.adamw(
        2e-3, warmup_steps=50, weight_decay=0.01, betas=(0.9, 0.99), min_lr=4e-5
    )
    recipe.log = common.log(preset, train_time_interval_s=NANO_SAVE_INTERVAL_S)
    return recipe


def __getattr__(name: str) -> Any:
    """The recipe of a preset's name, such as ``tokenizer_cv8x8x8``."""
    if name not in TOKENIZERS:
        raise AttributeError(f"module 'recipes.tokenizer' has no attribute '{name}'")
    helper = tokenizer_nano if name.startswith("tokenizer_nano") else tokenizer
    recipe: Any = as_recipe(functools.partial(helper, name))
    recipe.__name__ = recipe.__qualname__ = name
    recipe.__doc__ = helper.__doc__
    return recipe
