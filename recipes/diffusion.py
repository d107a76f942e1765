"""Recipes of the diffusion world models.

Sizes are presets (``nemo_cosmos.models.diffusion.presets``); here are the training numbers, from
the Cosmos paper (arXiv 2501.03575, table of training) and the published post-training
configurations. What the paper leaves out, such as batch sizes, is marked as ours. A recipe for a
new size starts from another and changes it::

    @as_recipe
    def diffusion_1b_text2world(post_training: bool) -> run.Partial:
        recipe = diffusion_7b_text2world(post_training=post_training)
        recipe.model.config.num_layers = 12
        recipe.model.config.hidden_size = 2048
        recipe.model.config.num_attention_heads = 16
        recipe.log.name = "diffusion_1b_text2world"
        return recipe
"""

from __future__ import annotations

import nemo_run as run

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from recipes import common
from recipes.config import Config, as_recipe
from recipes.controls import add_control
from recipes.layouts import PER_NODE, layout_for

CODE_WIDTH = 32
"""Channels of a code, as in the published code; the paper has 16."""
POST_TRAINING_LR = 2**-14.3
POST_TRAINING_STEPS = 2000
POST_TRAINING_SAVE_STEPS = 200
# A save of a nano model takes about a second; every 150 s keeps that under 1 %.
NANO_SAVE_INTERVAL_S = 150.0


@as_recipe
def diffusion_nano_text2world(post_training: bool) -> run.Partial:
    """Text2World that trains in minutes on a CPU; our own size and numbers."""
    return _nano("diffusion_nano_text2world", post_training)


@as_recipe
def diffusion_nano_video2world(post_training: bool) -> run.Partial:
    """Video2World that trains in minutes on a CPU."""
    return _nano("diffusion_nano_video2world", post_training)


@as_recipe
def diffusion_nano_camera(post_training: bool) -> run.Partial:
    """Nano Video2World, steered by a camera's path; always starts from weights."""
    recipe = diffusion_nano_video2world(post_training=True)
    _add_camera(recipe, "diffusion_nano_video2world")
    recipe.log.name = "diffusion_nano_camera"
    return recipe


@as_recipe
def diffusion_7b_text2world(post_training: bool) -> run.Partial:
    """Text2World, 7B: 28 layers of width 4096.

    Pre-training: lr 2^-15, weight decay 0.1, warm-up 2500. Post-training: lr 2^-14.3, 2000 steps,
    a save every 200, power EMA of rate 0.10.
    """
    return _large("diffusion_7b_text2world", post_training, lr=2**-15, weight_decay=0.1, eps=1e-10)


@as_recipe
def diffusion_7b_video2world(post_training: bool) -> run.Partial:
    """Video2World, 7B; the numbers of :func:`diffusion_7b_text2world`."""
    return _large("diffusion_7b_video2world", post_training, lr=2**-15, weight_decay=0.1, eps=1e-10)


@as_recipe
def diffusion_7b_camera(post_training: bool) -> run.Partial:
    """Video2World, 7B, steered by a camera's path; always starts from weights.

    The published model was trained on DL3DV with 57 frames of 704x1280; how long and how fast is
    not published. The numbers are those of :func:`diffusion_7b_video2world`.
    """
    recipe = diffusion_7b_video2world(post_training=True)
    _add_camera(recipe, "diffusion_7b_video2world")
    recipe.log.name = "diffusion_7b_camera"
    return recipe


@as_recipe
def diffusion_14b_text2world(post_training: bool) -> run.Partial:
    """Text2World, 14B: 36 layers of width 5120; lr 2^-16, weight decay 0.2, eps 1e-11."""
    return _large("diffusion_14b_text2world", post_training, lr=2**-16, weight_decay=0.2, eps=1e-11)


@as_recipe
def diffusion_14b_video2world(post_training: bool) -> run.Partial:
    """Video2World, 14B; the numbers of :func:`diffusion_14b_text2world`."""
    return _large(
        "diffusion_14b_video2world", post_training, lr=2**-16, weight_decay=0.2, eps=1e-11
    )


@as_recipe
def diffusion_14b_camera(post_training: bool) -> run.Partial:
    """Video2World, 14B, steered by a camera's path; see :func:`diffusion_7b_camera`."""
    recipe = diffusion_14b_video2world(post_training=True)
    _add_camera(recipe, "diffusion_14b_video2world")
    recipe.log.name = "diffusion_14b_camera"
    return recipe


def _nano(preset: str, post_training: bool) -> run.Partial:
    model = _model(preset)
    # At the published noise levels (0 and 1) most of a small video shows through the noise. What
    # moves, and where to, is learnt where it does not, and a short training must spend its steps
    # there; but with less than a few at little noise, samples stay grainy.
    model.process.edm.p_mean, model.process.edm.p_std = 1.2, 1.4
    model.config.passthrough_init = True
    return common.task(
        model=model,
        data=Config(
            LatentDataModule, path="", micro_batch_size=4, global_batch_size=4, text_length=32
        ),
        trainer=common.trainer(
            1000 if post_training else 2000,
            precision="32",
            ema=common.ema(decay=0.99),
            samples=common.sample_videos(every_n_steps=500, num_videos=2),
        ),
        optim=common.adamw(1.5e-3, warmup_steps=50, weight_decay=0.01, min_lr=3e-5),
        log=common.log(preset, train_time_interval_s=NANO_SAVE_INTERVAL_S),
        post_training=post_training,
    )


def _large(
    preset: str, post_training: bool, *, lr: float, weight_decay: float, eps: float
) -> run.Partial:
    """On GPUs of 80 GB, spread as :mod:`recipes.layouts` says."""
    num_nodes = 4 if post_training else 32
    split = layout_for(preset.split("_")[1], num_nodes * PER_NODE)
    model = _model(preset)
    if split.recomputed:
        model.config.recompute_granularity = "full"
        model.config.recompute_method = "block"
        model.config.recompute_num_layers = split.recomputed
    return common.task(
        model=model,
        # Batch sizes are ours: 64 samples are the published 32 ranks with two accumulations each.
        data=Config(LatentDataModule, path="", micro_batch_size=1, global_batch_size=64),
        trainer=common.trainer(
            POST_TRAINING_STEPS if post_training else 100_000,
            grad_reduce_in_fp32=False,  # 2 bytes a gradient, as published (paper, section 5.2)
            num_nodes=num_nodes,
            devices=PER_NODE,
            ema=common.ema(power_rate=0.1),
            samples=common.sample_videos(every_n_steps=200 if post_training else 1000),
            tensor_model_parallel_size=split.tp,
            sequence_parallel=split.tp > 1,
            context_parallel_size=split.cp,
            fsdp="megatron" if split.fsdp else None,
            ckpt_async_save=True,
        ),
        optim=common.adamw(
            POST_TRAINING_LR if post_training else lr,
            warmup_steps=0 if post_training else 2500,
            weight_decay=weight_decay,
            eps=eps,
        ),
        log=common.log(
            preset, every_n_train_steps=POST_TRAINING_SAVE_STEPS if post_training else 1000
        ),
        post_training=post_training,
    )


def _model(preset: str) -> run.Config:
    chosen = DIFFUSION[preset]
    return Config(
        DiffusionModel,
        config=Config(DiTConfig, **chosen.network),
        process=common.as_config(chosen.process()),
        preset=preset,
    )


@as_recipe
def diffusion_nano_decoder(post_training: bool) -> run.Partial:
    """Codes to latents, nano: decodes what ``ar_nano`` draws; our own size and numbers."""
    recipe = diffusion_nano_text2world(post_training=post_training)
    _decode_codes(recipe, "tokenizer_nano_dv4x8x8")
    # Codes say nearly everything, so that the noise levels are lower than a whole video's.
    recipe.model.process.edm.p_mean, recipe.model.process.edm.p_std = 0.0, 1.2
    recipe.log.name = "diffusion_nano_decoder"
    return recipe


@as_recipe
def diffusion_7b_decoder(post_training: bool) -> run.Partial:
    """Codes of DV8x16x16 to latents of CV8x8x8, 7B: the published diffusion decoder.

    Videos of 57 frames; the rotary embedding reaches half as far again in height and width. The
    training numbers are those of :func:`diffusion_7b_text2world`.
    """
    recipe = diffusion_7b_text2world(post_training=post_training)
    _decode_codes(recipe, "tokenizer_dv8x16x16")
    recipe.model.config.rope_ratios_thw = (1.0, 1.5, 1.5)
    recipe.log.name = "diffusion_7b_decoder"
    return recipe


def _decode_codes(recipe: run.Partial, tokenizer: str) -> None:
    """Make a Text2World recipe one of a diffusion decoder.

    Args:
        recipe: the recipe, changed in place.
        tokenizer: preset of the discrete tokenizer.
    """
    options = {"num_codes": TOKENIZERS[tokenizer].num_codes, "width": CODE_WIDTH}
    recipe.model.controls = [Config(ControlSpec, name="discrete", options=options)]
    recipe.model.config.control_channels = CODE_WIDTH
    conditioning = recipe.model.process.conditioning
    # Codes say all that a text could; guidance moves away from the model without them.
    conditioning.text_dropout, conditioning.control_dropout = 1.0, 0.1
    recipe.data.controls = ["discrete"]


def _add_camera(recipe: run.Partial, preset: str) -> None:
    """Let a camera's path steer the model, and load it with the data.

    Args:
        recipe: the recipe, changed in place.
        preset: the model's preset.
    """
    add_control(recipe, preset, "camera", {})
