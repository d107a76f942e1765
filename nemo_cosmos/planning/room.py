"""How much disk a training run will need: its checkpoints and its export."""

from __future__ import annotations

import math

import fiddle as fdl
import nemo_run as run
import torch

from nemo_cosmos.models.common.costs import StepInputs
from nemo_cosmos.models.common.family import get_family
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.planning.recipe import build_model, precision_of

FLOAT_BYTES = 4
SMALL_SIDE = 4  # latent rows and columns


def run_bytes(recipe: run.Partial, num_saved: int = 0) -> int:
    """Estimate what a run will still write, its tables and videos left out.

    Args:
        recipe: the configured recipe.
        num_saved: checkpoints that are there already.
    """
    number, precision = _num_parameters(recipe), precision_of(recipe)
    checkpoint = number * (
        precision.compute_bytes + precision.optimizer_bytes + precision.ema_bytes
    )
    left = max(_num_checkpoints(recipe) - num_saved, 1)
    return int(left * checkpoint + number * FLOAT_BYTES)


def _num_checkpoints(recipe: run.Partial) -> int:
    """Checkpoints that are on the disk at once, at most: those that are kept, and a new one."""
    saver = recipe.log.ckpt
    steps = getattr(saver, "every_n_train_steps", None)
    saves = math.ceil(recipe.trainer.max_steps / steps) if steps else 1
    return min(saves, max(getattr(saver, "keep", 2) or 2, 2) + 1)


def _num_parameters(recipe: run.Partial) -> int:
    """Parameters that are trained, counted without memory; of layers, one is counted."""
    if hasattr(fdl.get_callable(recipe.model), "meta_step"):
        with torch.device("meta"):
            network = TokenizerNetwork(fdl.build(recipe.model.config))
        return sum(parameter.numel() for parameter in network.parameters())
    model = build_model(recipe)
    family = get_family(model.family)
    preset = family.presets.get(model.preset or "")
    # The sizes of a network hardly depend on it.
    tokenizer = TOKENIZERS[preset.tokenizer] if preset else next(iter(TOKENIZERS.values()))
    side = SMALL_SIDE * tokenizer.spatial_factor
    inputs = StepInputs(
        clips_thw=((1, side, side),),  # a small picture, which every network takes
        num_text_tokens=getattr(recipe.data, "text_length", 1),  # pixels come without texts
        micro_batch_size=1,
        global_batch_size=1,
        precision=precision_of(recipe),
    )
    return family.workload(model, tokenizer, inputs).parameters.trained
