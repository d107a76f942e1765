"""Every recipe by name, found without importing NeMo.

A recipe's function is imported when it is requested. Sizes of tokenizers are presets, and each has
a recipe of its preset's name.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS

if TYPE_CHECKING:
    import nemo_run as run

    from recipes.config import Recipe


@dataclass(frozen=True)
class RecipeEntry:
    """Where a recipe is.

    Attributes:
        module: the module with the function of the recipe's name.
        help: one line for lists.
        pretrains: whether it can train from scratch.
    """

    module: str
    help: str
    pretrains: bool = True


_DIFFUSION = "recipes.diffusion"
_MULTIVIEW = "recipes.multiview"
_ROBOTICS = "recipes.robotics"
_AUTOREGRESSIVE = "recipes.autoregressive"
_STAGES = "recipes.autoregressive_stages"
_TOKENIZER = "recipes.tokenizer"

RECIPES: dict[str, RecipeEntry] = {
    "diffusion_nano_text2world": RecipeEntry(_DIFFUSION, "Text2World in minutes on a CPU"),
    "diffusion_nano_video2world": RecipeEntry(_DIFFUSION, "Video2World in minutes on a CPU"),
    "diffusion_nano_camera": RecipeEntry(
        _DIFFUSION, "nano Video2World, post-trained on camera paths", pretrains=False
    ),
    "diffusion_nano_decoder": RecipeEntry(_DIFFUSION, "codes to latents, in minutes on a CPU"),
    "diffusion_7b_decoder": RecipeEntry(_DIFFUSION, "codes of DV8x16x16 to latents, 7B"),
    **{
        f"diffusion_{size}_multiview{suffix}": RecipeEntry(
            _MULTIVIEW, f"{size.replace('b', 'B')} {task} of several cameras", pretrains
        )
        for size in ("nano", "7b")
        for suffix, task, pretrains in (
            ("", "Video2World", True),
            ("_text2world", "Text2World", True),
            ("_driving", "Video2World, post-trained on a car's path and rig,", False),
            ("_layout", "Video2World, post-trained on layout videos", False),
        )
    },
    "diffusion_7b_text2world": RecipeEntry(_DIFFUSION, "Text2World, 7B"),
    "diffusion_7b_video2world": RecipeEntry(_DIFFUSION, "Video2World, 7B"),
    "diffusion_7b_camera": RecipeEntry(
        _DIFFUSION, "7B Video2World, post-trained on camera paths", pretrains=False
    ),
    "diffusion_14b_text2world": RecipeEntry(_DIFFUSION, "Text2World, 14B"),
    "diffusion_14b_video2world": RecipeEntry(_DIFFUSION, "Video2World, 14B"),
    "diffusion_14b_camera": RecipeEntry(
        _DIFFUSION, "14B Video2World, post-trained on camera paths", pretrains=False
    ),
    **{
        f"diffusion_{size}_{task}": RecipeEntry(
            _ROBOTICS, f"{size.replace('b', 'B')} Video2World, post-trained on {data}", False
        )
        for size in ("nano", "7b", "14b")
        for task, data in (("action", "robot actions"), ("instruction", "a robot's instructions"))
    },
    "ar_nano": RecipeEntry(_AUTOREGRESSIVE, "next code, in minutes on a CPU"),
    "ar_nano_video": RecipeEntry(
        _AUTOREGRESSIVE, "nano, on clips whose codes are made in the step"
    ),
    "ar_nano_action": RecipeEntry(
        _AUTOREGRESSIVE, "nano, post-trained on robot actions", pretrains=False
    ),
    "ar_1b": RecipeEntry(_AUTOREGRESSIVE, "next code, 1B"),
    "ar_4b": RecipeEntry(_AUTOREGRESSIVE, "next code, 4B"),
    "ar_12b": RecipeEntry(_AUTOREGRESSIVE, "next code, 12B"),
    "ar_5b_video2world": RecipeEntry(_AUTOREGRESSIVE, "next code with a text, 5B"),
    "ar_5b_action": RecipeEntry(
        _AUTOREGRESSIVE, "5B with a text, post-trained on robot actions", pretrains=False
    ),
    "ar_13b_video2world": RecipeEntry(_AUTOREGRESSIVE, "next code with a text, 13B"),
    "ar_4b_stage_1": RecipeEntry(_STAGES, "4B, stage 1: 17 frames"),
    "ar_4b_stage_1_1": RecipeEntry(
        _STAGES, "4B, stage 1.1: 33 frames; from stage 1", pretrains=False
    ),
    "ar_4b_cool_down": RecipeEntry(
        _STAGES, "4B, cool-down: the learning rate falls to 0", pretrains=False
    ),
    "ar_12b_stage_1": RecipeEntry(_STAGES, "12B, stage 1: 17 frames"),
    "ar_12b_stage_1_1": RecipeEntry(
        _STAGES, "12B, stage 1.1: 33 frames, with YaRN; from stage 1", pretrains=False
    ),
    "ar_12b_cool_down": RecipeEntry(
        _STAGES, "12B, cool-down: the learning rate falls to 0", pretrains=False
    ),
    "ar_5b_video2world_stage_2": RecipeEntry(
        _STAGES, "5B, stage 2: a text, and images; from 4B", pretrains=False
    ),
    "ar_5b_video2world_cool_down": RecipeEntry(
        _STAGES, "5B, cool-down: the learning rate falls to 0", pretrains=False
    ),
    "ar_13b_video2world_stage_2": RecipeEntry(
        _STAGES, "13B, stage 2: a text, and images; from 12B", pretrains=False
    ),
    "ar_13b_video2world_cool_down": RecipeEntry(
        _STAGES, "13B, cool-down: the learning rate falls to 0", pretrains=False
    ),
    **{name: RecipeEntry(_TOKENIZER, f"{name}, by its preset") for name in TOKENIZERS},
}


def require_recipe(
    name: str, post_training: bool, command: Literal["pretrain", "finetune", "plan"] | None = None
) -> RecipeEntry:
    """Look a recipe up without importing it.

    Args:
        name: such as ``diffusion_7b_video2world``.
        post_training: whether it is for ``finetune`` instead of ``pretrain``.
        command: the command whose ``--list`` an error names; by default the one that trains.

    Raises:
        ConfigError: there is no such recipe (with the nearest), or it cannot train from scratch.
    """
    if name not in RECIPES:
        command = command or ("finetune" if post_training else "pretrain")
        raise ConfigError(
            f"There is no recipe '{name}'. The nearest are {nearest_names(name, RECIPES)}. "
            f"'nemo-cosmos {command} --list' lists them all."
        )
    if not post_training and not RECIPES[name].pretrains:
        raise ConfigError(
            f"The recipe '{name}' post-trains a model and cannot train one from scratch. Use "
            f"'nemo-cosmos finetune --factory {name} --from WEIGHTS'."
        )
    return RECIPES[name]


def get_recipe(
    name: str, post_training: bool = False, peft_scheme: str | None = None
) -> run.Partial:
    """The configuration of a recipe, ready for overrides.

    Args:
        name: such as ``diffusion_7b_video2world``.
        post_training: whether it is for ``finetune`` instead of ``pretrain``: with other training
            numbers, and weights to start from.
        peft_scheme: what is trained instead of all weights; see :mod:`recipes.peft`.

    Raises:
        ConfigError: there is no such recipe, or it cannot train from scratch, or so.
    """
    entry = require_recipe(name, post_training)
    function: Recipe = getattr(importlib.import_module(entry.module), name)
    return function(peft_scheme=peft_scheme, post_training=post_training)


def plain_recipe(recipe: run.Partial, name: str) -> run.Partial:
    """The recipe of the same preset, without what a task such as a control changes.

    Args:
        recipe: a configured recipe for post-training.
        name: its name; the result where its preset has no recipe of its own.
    """
    preset = getattr(recipe.model, "preset", None)
    return get_recipe(preset if preset in RECIPES else name, post_training=True)
