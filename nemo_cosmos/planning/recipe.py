"""Plan from a recipe's configuration, as ``nemo-cosmos plan`` does.

Nothing is built but the network's configuration and, on the meta device, its parameters.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import fiddle as fdl
import nemo_run as run

from nemo_cosmos.data.tokenize.dataset_info import read_dataset_info
from nemo_cosmos.errors import ConfigError, WrongFrameCountError, WrongSizeError
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.models.tokenizer.model import TokenizerModel
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.planning import parameters
from nemo_cosmos.planning.hardware import Gpu
from nemo_cosmos.planning.planner import Plan, make_plan
from nemo_cosmos.planning.tokenizer import TokenizerPlan, plan_tokenizer
from nemo_cosmos.planning.workload import Precision, Workload
from nemo_cosmos.training.callbacks.ema import EMA

PUBLISHED_VIDEO = (121, 704, 1280)
"""Frames, height and width that the published models were trained on last."""
NANO_VIDEO = (17, 96, 128)
"""The same of the quickstart, for networks that do not take the published size."""
FP8_FIELDS = ("fp8", "fp8_recipe", "fp8_param", "first_last_layers_bf16")


@dataclass(frozen=True)
class Video:
    """The size of a training video; what is None is taken from the data or the recipe.

    Attributes:
        num_frames: frames.
        height: in pixels.
        width: in pixels.
    """

    num_frames: int | None = None
    height: int | None = None
    width: int | None = None

    def or_else(self, thw: tuple[int, int, int]) -> tuple[int, int, int]:
        """Fill in what is None."""
        asked = (self.num_frames, self.height, self.width)
        frames, height, width = (
            given if own is None else own for own, given in zip(asked, thw, strict=True)
        )
        return frames, height, width


def plan_recipe(
    recipe: run.Partial,
    gpu: Gpu,
    num_gpus: int,
    memory_bytes: float,
    video: Video | None = None,
    *,
    fsdp: bool = False,
) -> Plan | TokenizerPlan:
    """Plan a configured recipe.

    Args:
        recipe: with its overrides applied.
        gpu: kind of GPU.
        num_gpus: how many.
        memory_bytes: of each.
        video: size of the training videos; by default that of ``data.path``, where it is tokenised
            data, else the published one.
        fsdp: also layouts that shard weights by FSDP.

    Raises:
        ConfigError: the recipe is of another kind of model, no layout is legal, or none fits.
        WrongFrameCountError, WrongSizeError: the tokenizer or network does not take the video.
    """
    video = video or Video()
    model = fdl.get_callable(recipe.model)
    if model is TokenizerModel:
        config = fdl.build(recipe.model.config)
        clip = video.or_else((recipe.data.num_frames, *recipe.data.size))
        config.check_video((1, config.pixel_channels, *clip))
        batch = (recipe.data.micro_batch_size, recipe.data.global_batch_size)
        return plan_tokenizer(config, clip, _precision(recipe), batch, gpu, num_gpus, memory_bytes)
    if model is not DiffusionModel:
        raise ConfigError(
            f"The planner knows DiffusionModel and TokenizerModel, but this recipe trains a "
            f"{model.__name__}. Plan one of the recipes that 'nemo-cosmos pretrain --list' shows."
        )
    workload, counted = _diffusion(recipe, video)
    strategy = recipe.trainer.strategy
    configured = (
        getattr(strategy, "tensor_model_parallel_size", 1) or 1,
        getattr(strategy, "context_parallel_size", 1) or 1,
        getattr(strategy, "pipeline_model_parallel_size", 1) or 1,
        getattr(strategy, "fsdp", None) is not None,
    )
    recompute = getattr(recipe.model.config, "recompute_granularity", None) or "none"
    return make_plan(
        workload, counted, gpu, num_gpus, memory_bytes, configured, recompute, fsdp=fsdp
    )


def _diffusion(recipe: run.Partial, video: Video) -> tuple[Workload, parameters.Parameters]:
    network = copy.deepcopy(recipe.model.config)
    for name in FP8_FIELDS:  # planning for FP8 needs no Transformer Engine here
        if name in network.__arguments__:
            delattr(network, name)
    config = fdl.build(network)
    process = fdl.build(recipe.model.process)
    control = None if recipe.model.control is None else fdl.build(recipe.model.control)
    tokenizer = TOKENIZERS[DIFFUSION[recipe.model.preset].tokenizer]
    clips = _training_videos(recipe, config, tokenizer)
    if video != Video():  # what is asked for stands for all of the data
        clips = [video.or_else(clips[0])]
    latent_thw, *others_thw = (_latent_of(clip, config, tokenizer) for clip in clips)
    stages = getattr(recipe.trainer.strategy, "virtual_pipeline_model_parallel_size", None)
    config.virtual_pipeline_model_parallel_size = stages  # the strategy writes it there, too
    workload = Workload(
        config=config,
        latent_thw=latent_thw,
        num_text_tokens=getattr(recipe.data, "text_length", 512),
        micro_batch_size=recipe.data.micro_batch_size,
        global_batch_size=recipe.data.global_batch_size,
        precision=_precision(recipe),
        noise_levels=1 if control is None else latent_thw[0],
        packed=getattr(recipe.data, "packing", None) is not None,
        other_latents_thw=tuple(others_thw),
    )
    return workload, parameters.count(config, control, process.edm.learned_variance)


def _precision(recipe: run.Partial) -> Precision:
    trainer = recipe.trainer
    kinds = [fdl.get_callable(callback) for callback in trainer.callbacks]
    return Precision.of(
        str(trainer.precision),
        grad_reduce_in_fp32=getattr(trainer, "grad_reduce_in_fp32", True),
        ema=EMA in kinds,
        fp8=bool(getattr(trainer, "fp8", None)),
    )


def _training_videos(
    recipe: run.Partial, config: Any, tokenizer: Any
) -> list[tuple[int, int, int]]:
    """Frames, height and width of the data, else the largest usual size that the network takes."""
    path = recipe.data.path
    if path:
        windows = [
            read_dataset_info(folder)["window"]
            for folder in ([path] if isinstance(path, str) else path)
        ]
        sizes = [(window["window_frames"], *window["size"]) for window in windows]
        return [(int(frames), int(height), int(width)) for frames, height, width in sizes]
    frames, height, width = PUBLISHED_VIDEO
    fits = (
        1 + (frames - 1) // tokenizer.temporal_factor <= config.max_frames
        and height // tokenizer.spatial_factor <= config.max_height
        and width // tokenizer.spatial_factor <= config.max_width
    )
    return [PUBLISHED_VIDEO if fits else NANO_VIDEO]


def _latent_of(clip: tuple[int, int, int], config: Any, tokenizer: Any) -> tuple[int, int, int]:
    """Latent frames, rows and columns of a clip, which tokenizer and network must take."""
    num_frames, height, width = clip
    tokenizer.check_video((1, tokenizer.pixel_channels, *clip))
    frames = 1 + (num_frames - 1) // tokenizer.temporal_factor
    rows, columns = height // tokenizer.spatial_factor, width // tokenizer.spatial_factor
    if frames > config.max_frames:
        raise WrongFrameCountError(
            f"The video has {frames} latent frames, but the network takes up to "
            f"{config.max_frames}. Plan with fewer frames (--num-frames)."
        )
    if (
        rows > config.max_height
        or columns > config.max_width
        or (rows % config.patch_spatial or columns % config.patch_spatial)
    ):
        raise WrongSizeError(
            f"The latents are {rows}x{columns}, but the network takes multiples of "
            f"{config.patch_spatial} up to {config.max_height}x{config.max_width}. Plan with "
            "another --height or --width."
        )
    return frames, rows, columns
