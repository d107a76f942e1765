"""Plan from a recipe's configuration, as ``nemo-cosmos plan`` does.

Nothing is built but the Lightning module and, on the meta device, its network's parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import fiddle as fdl
import nemo_run as run

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.data.tokenize.dataset_info import read_dataset_info
from nemo_cosmos.errors import ConfigError, counted, nearest_names
from nemo_cosmos.models.common.costs import Precision, Size3, StepInputs, Workload
from nemo_cosmos.models.common.family import WorldFamily, WorldModel, get_family
from nemo_cosmos.models.common.latents import LatentGrid
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.options import Range, check_value
from nemo_cosmos.planning.cost import Overlap
from nemo_cosmos.planning.counted import CountedPlan, plan_counted
from nemo_cosmos.planning.hardware import Gpu
from nemo_cosmos.planning.layout import ParallelLayout, machines
from nemo_cosmos.planning.planner import Plan, make_plan
from nemo_cosmos.training.callbacks.ema import EMA
from nemo_cosmos.training.checkpointing.resume import restore_source
from nemo_cosmos.training.matching import check_belonging

MOST_PLANNED = 10_000_000
"""The largest number of GPUs that is planned for; its divisors are found in no time."""
FP8_FIELDS = ("fp8", "fp8_recipe", "fp8_param", "first_last_layers_bf16")


@dataclass(frozen=True)
class Video:
    """The size of a training video; what is None is taken from the data or the recipe.

    Attributes:
        num_frames: number of frames.
        height: height in pixels.
        width: width in pixels.
        num_views: number of synchronous cameras, each with such a video.
    """

    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    num_views: int | None = None

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
) -> Plan | CountedPlan:
    """Plan a configured recipe.

    Args:
        recipe: the recipe, with its overrides applied.
        gpu: kind of GPU.
        num_gpus: number of GPUs.
        memory_bytes: memory of each GPU.
        video: size of the training videos; by default that of ``data.path``, where it is tokenised
            data, else the one that the model's family is usually trained on.
        fsdp: whether to consider layouts that split weights by FSDP.

    Raises:
        ConfigError: the recipe is of another kind of model, no layout is legal, or none fits.
        WrongFrameCountError, WrongSizeError: the tokenizer or network does not take the video.
    """
    video = video or Video()
    num_gpus = check_value("the number of GPUs", num_gpus, int, Range(least=1, most=MOST_PLANNED))
    check_value("the memory of a GPU", memory_bytes, float, Range(above=0))
    for part, size in asdict(video).items():
        check_value(part, size, int | None, Range(least=1))
    model = fdl.get_callable(recipe.model)
    if hasattr(model, "meta_step"):
        _check_batch(recipe)
        config = fdl.build(recipe.model.config)
        clip = video.or_else((recipe.data.num_frames, *recipe.data.size))
        batch = (recipe.data.micro_batch_size, recipe.data.global_batch_size)
        return plan_counted(
            model, config, clip, precision_of(recipe), batch, gpu, num_gpus, memory_bytes
        )
    name = getattr(model, "family", None)
    if name is None:
        raise ConfigError(
            f"The planner knows models with a 'family' or a 'meta_step', but this recipe trains a "
            f"{model.__name__}, which has neither. Plan one of the recipes that 'nemo-cosmos "
            "pretrain --list' shows."
        )
    built = build_model(recipe)
    _check_belonging(recipe, built)
    workload = _workload(recipe, built, get_family(name), video)
    own = _own_layout(recipe, built, workload, num_gpus)
    tensor = bool(built.config.tp_comm_overlap)
    overlap = Overlap(_overlaps_data(recipe.trainer.strategy), tensor)
    return make_plan(workload, gpu, num_gpus, memory_bytes, own, overlap, fsdp=fsdp)


def check_machines(recipe: run.Partial, overrides: Sequence[str], num_gpus: int, gpu: Gpu) -> None:
    """Require machines that are named beside the number of GPUs to be those of the plan.

    Args:
        recipe: the recipe, with its overrides applied.
        overrides: the ``key=value`` words of the command.
        num_gpus: number of GPUs.
        gpu: kind of GPU.

    Raises:
        ConfigError: they are others.
    """
    planned = machines(num_gpus, gpu.per_node)
    named = {word.partition("=")[0].rstrip("+-*/ ").strip() for word in overrides}
    given = {key: getattr(recipe.trainer, key.split(".")[1]) for key in planned if key in named}
    wrong = [f"{key}={value}" for key, value in given.items() if value != planned[key]]
    if wrong:
        keys = " ".join(f"{key}={value}" for key, value in planned.items())
        raise ConfigError(
            f"{' '.join(wrong)} is not what --gpus {num_gpus} plans for: {keys}. Leave "
            "trainer.num_nodes and trainer.devices out, since the plan chooses them, or name the "
            "number of all GPUs by --gpus."
        )


def _own_layout(
    recipe: run.Partial, model: WorldModel, workload: Workload, num_gpus: int
) -> ParallelLayout | str:
    """Return the recipe's layout on so many GPUs, or why it does not divide over them."""
    strategy, config = recipe.trainer.strategy, model.config
    tp, cp, pp = (
        getattr(strategy, f"{axis}_parallel_size", 1) or 1
        for axis in ("tensor_model", "context", "pipeline_model")
    )
    name, shared = f"The recipe's own layout, TP{tp} x CP{cp} x PP{pp},", tp * cp * pp
    dp = num_gpus // shared
    if num_gpus % shared:
        return (
            f"{name} does not divide over {counted(num_gpus, 'GPU')}: it takes a multiple of "
            f"{shared}."
        )
    if workload.global_batch_size % (workload.micro_batch_size * dp):
        return (
            f"{name} makes {counted(dp, 'data-parallel rank')} of {counted(num_gpus, 'GPU')}, over "
            f"which a global batch of {workload.global_batch_size} in micro-batches of "
            f"{workload.micro_batch_size} does not divide."
        )
    recompute = config.recompute_granularity or "none"
    if recompute == "full" and config.recompute_method == "block":
        recompute = "block"
    return ParallelLayout(
        tp,
        cp,
        pp,
        dp,
        fsdp=getattr(strategy, "fsdp", None) is not None,
        recompute=recompute,
        num_micro_batches=workload.global_batch_size // (workload.micro_batch_size * dp),
        num_recomputed=config.recompute_num_layers or 0 if recompute == "block" else 0,
    )


def _overlaps_data(strategy: run.Config) -> bool:
    """Whether gradients and weights travel while a GPU computes, as they do by default."""
    given = getattr(strategy, "ddp", None)
    if given is None or isinstance(given, str):
        return getattr(strategy, "overlap", None) is not False
    return bool(getattr(given, "overlap_grad_reduce", False))


def _check_belonging(recipe: run.Partial, model: WorldModel) -> None:
    """Require data and weights that are named to belong to the model: it could not train on others.

    Raises:
        ConfigError: they do not.
    """
    path, restore = recipe.data.path, getattr(recipe.resume, "restore_config", None)
    weights = getattr(restore, "path", None)
    check_belonging(
        model,
        [path] if isinstance(path, str) and path else list(path or ()),
        restore_source(Path(weights)) if weights else None,
        getattr(recipe.resume, "allow_mismatch", ()),
        text_length=getattr(recipe.data, "text_length", 0),
    )


def build_model(recipe: run.Partial) -> WorldModel:
    """Build the Lightning module, whose network is built later."""
    configured = copy.deepcopy(recipe.model)
    network = getattr(configured, "config", None)
    for name in FP8_FIELDS:  # planning for FP8 needs no Transformer Engine here
        if network is not None and name in network.__arguments__:
            delattr(network, name)
    model: WorldModel = fdl.build(configured)
    if getattr(recipe, "peft", None) is not None:
        model.peft = fdl.build(recipe.peft)  # type: ignore[attr-defined]
    # The strategy would write it into the network's configuration.
    model.config.virtual_pipeline_model_parallel_size = getattr(
        recipe.trainer.strategy, "virtual_pipeline_model_parallel_size", None
    )
    return model


def _workload(
    recipe: run.Partial, model: WorldModel, family: WorldFamily, video: Video
) -> Workload:
    """Let the model's family describe a step on the videos that are asked for, or the data's."""
    if model.preset is None or model.preset not in family.presets:
        nearest = nearest_names(str(model.preset), family.presets)
        raise ConfigError(
            f"The model is of the preset '{model.preset}', so the tokenizer of its latents is "
            f"unknown. Set model.preset to one of {nearest}."
        )
    tokenizer = TOKENIZERS[family.presets[model.preset].tokenizer]
    infos = _data_infos(recipe)
    clips = _data_clips(infos) or (family.usual_clip(model, tokenizer),)
    # The size that is asked for replaces all sizes of the data.
    if replace(video, num_views=None) != Video():
        clips = (video.or_else(clips[0]),)
    for clip in clips:
        tokenizer.check_video((1, tokenizer.pixel_channels, *clip))
    _check_batch(recipe)
    inputs = StepInputs(
        clips_thw=clips,
        num_text_tokens=getattr(recipe.data, "text_length", 512),
        micro_batch_size=recipe.data.micro_batch_size,
        global_batch_size=recipe.data.global_batch_size,
        precision=precision_of(recipe),
        packed=getattr(recipe.data, "packing", None) is not None,
        num_views=video.num_views or _data_views(infos, tokenizer),
    )
    return family.workload(model, tokenizer, inputs)


def _check_batch(recipe: run.Partial) -> None:
    """Require whole micro-batches.

    Raises:
        ConfigError: a batch is empty, or the global one is no multiple of the micro-batch.
    """
    micro, whole = recipe.data.micro_batch_size, recipe.data.global_batch_size
    if micro < 1 or whole < 1 or whole % micro:
        raise ConfigError(
            f"data.global_batch_size={whole} is not made of micro-batches of "
            f"data.micro_batch_size={micro}. Both must be 1 or more, the first a multiple of the "
            "second."
        )


def precision_of(recipe: run.Partial) -> Precision:
    """Bytes of a value by its use, as the trainer is configured."""
    trainer = recipe.trainer
    kinds = [fdl.get_callable(callback) for callback in trainer.callbacks]
    return Precision.of(
        str(trainer.precision),
        grad_reduce_in_fp32=getattr(trainer, "grad_reduce_in_fp32", True),
        ema=EMA in kinds,
        fp8=bool(getattr(trainer, "fp8", None)),
        fp8_recipe=str(getattr(trainer, "fp8_recipe", None) or "tensorwise"),
    )


def _data_infos(recipe: run.Partial) -> list[JsonObject]:
    """Return what the ``dataset.json`` of each folder says; nothing where no data are named."""
    path = recipe.data.path
    folders = [path] if isinstance(path, str) else list(path or ())
    return [read_dataset_info(folder) for folder in folders if folder]


def _data_views(infos: Sequence[JsonObject], tokenizer: LatentGrid) -> int | None:
    """Return how many cameras' latents a sample of the data holds; None where none are named."""
    counts = [
        info["latent_shape"][-3]
        // (1 + (info["window"]["window_frames"] - 1) // tokenizer.temporal_factor)
        for info in infos
        if info.get("latent_shape")
    ]
    return max(counts, default=None)


def _data_clips(infos: Sequence[JsonObject]) -> tuple[Size3, ...]:
    """Return frames, height and width of the data's clips."""
    windows = [info["window"] for info in infos]
    sizes = [(window["window_frames"], *window["size"]) for window in windows]
    return tuple((int(frames), int(height), int(width)) for frames, height, width in sizes)
