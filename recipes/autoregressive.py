"""Recipes of the autoregressive world models.

Sizes are presets (``nemo_cosmos.models.autoregressive.presets``); here are the training numbers, of
the published configuration (AdamW at 1e-3, weight decay 0.05, warm-up 5000, a cosine down to 1e-8)
and its post-training (5e-5). What is not published, such as batch sizes and layouts, is ours. The
data are codes: ``nemo-cosmos tokenize`` with a discrete tokenizer, or clips that the callback
:class:`~nemo_cosmos.training.callbacks.encoding.EncodeVideo` encodes in the step.
"""

from __future__ import annotations

import fiddle as fdl
import nemo_run as run

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.data.modules import CodesDataModule, VideoDataModule
from nemo_cosmos.models.autoregressive.model import ARModel
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.presets import AUTOREGRESSIVE
from nemo_cosmos.models.autoregressive.process.config import ARProcess
from nemo_cosmos.models.common.control_dims import TokenizerFacts
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.training.callbacks.encoding import EncodeVideo
from nemo_cosmos.training.callbacks.samples import SampleVideos
from recipes import common
from recipes.config import Config, as_recipe

PRE_TRAINING_LR = 1e-3
POST_TRAINING_LR = 5e-5
POST_TRAINING_STEPS = 1000
ACTION_STEPS = 10_000
PAPER_Z_LOSS = 3e-4
PER_NODE = 8
LAYOUTS = {
    "ar_1b": (1, 4),
    "ar_4b": (2, 16),
    "ar_12b": (8, 32),
    "ar_5b_video2world": (2, 16),
    "ar_13b_video2world": (8, 32),
}
"""Tensor-parallel ranks, as published, and nodes of pre-training, which are ours."""
# A save of a nano model takes about a second; every 150 s keeps that under 1 %.
NANO_SAVE_INTERVAL_S = 150.0


@as_recipe
def ar_nano(post_training: bool) -> run.Partial:
    """Continuation of given frames that trains in minutes on a CPU; our own size and numbers."""
    preset = "ar_nano"
    return common.task(
        model=_model(preset),
        data=Config(
            CodesDataModule, path="", micro_batch_size=4, global_batch_size=4, text_length=32
        ),
        trainer=common.trainer(
            500 if post_training else 1500,
            precision="32",
            ema=common.ema(decay=0.99),
            samples=_samples(every_n_steps=500, num_videos=2),
        ),
        optim=common.adamw(2e-3, warmup_steps=50, weight_decay=0.05, min_lr=5e-5),
        log=common.log(preset, train_time_interval_s=NANO_SAVE_INTERVAL_S),
        post_training=post_training,
    )


@as_recipe
def ar_nano_video(post_training: bool) -> run.Partial:
    """Nano on curated clips as they are: their codes are made in the step, of random windows."""
    recipe = ar_nano(post_training=post_training)
    recipe.data = Config(
        VideoDataModule,
        path="",
        num_frames=17,
        size=(96, 128),
        image_ratio=0.0,
        micro_batch_size=4,
        global_batch_size=4,
    )
    # Sample videos need the data's codes.
    kinds = (fdl.get_callable(callback) for callback in recipe.trainer.callbacks)
    kept = zip(kinds, recipe.trainer.callbacks, strict=True)
    recipe.trainer.callbacks = [one for kind, one in kept if kind is not SampleVideos]
    recipe.trainer.callbacks.append(Config(EncodeVideo, tokenizer=""))
    recipe.log.name = "ar_nano_video"
    return recipe


@as_recipe
def ar_nano_action(post_training: bool) -> run.Partial:
    """Nano, steered by robot actions; starts from a world that continues videos."""
    recipe = ar_nano(post_training=True)
    _add_actions(recipe, "ar_nano")
    recipe.model.config.control_channels = AUTOREGRESSIVE["ar_nano"].network["hidden_size"]
    # The controls begin at zero and have much to learn in few steps.
    recipe.optim = common.adamw(1e-3, warmup_steps=50, weight_decay=0.05, min_lr=5e-5)
    recipe.trainer.callbacks.append(common.obedience(400, num_episodes=4, options={}))
    recipe.log.name = "ar_nano_action"
    return recipe


@as_recipe
def ar_5b_action(post_training: bool) -> run.Partial:
    """Video, text and robot actions, 5B: the actions are attended to, behind the text.

    The published action control of these models trains at the rate of post-training; how long is
    ours.
    """
    recipe = ar_5b_video2world(post_training=True)
    _add_actions(recipe, "ar_5b_video2world")
    recipe.trainer.max_steps = ACTION_STEPS
    recipe.trainer.callbacks.append(common.obedience(1000, options={}))
    recipe.log.name = "ar_5b_action"
    return recipe


@as_recipe
def ar_1b(post_training: bool) -> run.Partial:
    """Continuation, 1B: 16 layers of width 2048."""
    return large("ar_1b", post_training)


@as_recipe
def ar_4b(post_training: bool) -> run.Partial:
    """Continuation, 4B: 16 layers of width 4096; tensor-parallel over 2 GPUs, as published."""
    return large("ar_4b", post_training)


@as_recipe
def ar_12b(post_training: bool) -> run.Partial:
    """Continuation, 12B: 40 layers of width 5120, with YaRN; over 8 GPUs, as published."""
    return large("ar_12b", post_training)


@as_recipe
def ar_5b_video2world(post_training: bool) -> run.Partial:
    """Video and text, 5B: the 4B model with cross-attention in every layer."""
    return large("ar_5b_video2world", post_training)


@as_recipe
def ar_13b_video2world(post_training: bool) -> run.Partial:
    """Video and text, 13B: the 12B model with cross-attention in every layer."""
    return large("ar_13b_video2world", post_training)


def large(preset: str, post_training: bool, *, is_stage: bool = False) -> run.Partial:
    """A large model, on GPUs of 80 GB.

    Args:
        preset: the model's preset.
        post_training: ``finetune`` instead of ``pretrain``; on one node, but for a stage.
        is_stage: whether it is a stage of pre-training, which may start from weights, too.
    """
    tp, num_nodes = LAYOUTS[preset]
    is_short = post_training and not is_stage
    nodes = 1 if is_short else num_nodes
    model = _model(preset)
    model.process.z_loss = PAPER_Z_LOSS
    model.config.recompute_granularity = "full"
    model.config.recompute_method = "uniform"
    model.config.recompute_num_layers = 1
    return common.task(
        model=model,
        data=Config(
            CodesDataModule,
            path="",
            micro_batch_size=1,
            global_batch_size=nodes * PER_NODE // tp * (1 if is_short else 4),
        ),
        trainer=common.trainer(
            POST_TRAINING_STEPS if is_short else 100_000,
            num_nodes=nodes,
            devices=PER_NODE,
            samples=_samples(every_n_steps=500),
            tensor_model_parallel_size=tp,
            sequence_parallel=tp > 1,
            ckpt_async_save=True,
        ),
        optim=common.adamw(
            POST_TRAINING_LR if is_short else PRE_TRAINING_LR,
            warmup_steps=0 if is_short else 5000,
            weight_decay=0.05,
            betas=(0.9, 0.95),
            min_lr=1e-8,
        ),
        log=common.log(preset, every_n_train_steps=500),
        post_training=post_training,
    )


def _add_actions(recipe: run.Partial, preset: str) -> None:
    """Let robot actions steer the model, and load them with the data.

    Args:
        recipe: the recipe, changed in place.
        preset: the model's preset.
    """
    tokenizer = TOKENIZERS[AUTOREGRESSIVE[preset].tokenizer]
    recipe.model.controls = [Config(ControlSpec, name="action", options=common.action_options())]
    recipe.model.tokenizer = Config(
        TokenizerFacts,
        temporal_factor=tokenizer.temporal_factor,
        spatial_factor=tokenizer.spatial_factor,
    )
    # An action says how what the first frame shows moves on; without that frame it says little.
    recipe.model.process.condition_latents = 1
    recipe.data.controls = ["action"]


def _samples(every_n_steps: int, num_videos: int = 1) -> run.Config:
    config = common.sample_videos(every_n_steps, num_videos)
    config.sampler.options = {}
    return config


def _model(preset: str) -> run.Config:
    chosen = AUTOREGRESSIVE[preset]
    given = 0 if chosen.network.get("begin_token") else 1
    process = ARProcess(condition_latents=given, top_p=chosen.top_p)
    return Config(
        ARModel,
        config=Config(ARConfig, **chosen.network),
        process=common.as_config(process),
        preset=preset,
    )
