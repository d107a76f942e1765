"""An adapter of a diffusion world as diffusers and the PEFT library read it.

Our adapter is one of a fused projection: its A is the same for queries, keys and values, and the
rows of its B are theirs in turn. Theirs are three, each with a copy of A. The scale is multiplied
into B, so that alpha equals the rank and no library has to know it.

::

    rain_hf/
      pytorch_lora_weights.safetensors   for ``load_lora_adapter`` of diffusers' models
      adapter_model.safetensors          for ``PeftModel.from_pretrained(transformer, FOLDER)``
      adapter_config.json                PEFT's
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from nemo_cosmos.checkpoint.adapters.folder import (
    CONFIG_FILE,
    WEIGHT,
    WEIGHTS_FILE,
    Adapter,
    broken,
    check_effect,
)
from nemo_cosmos.checkpoint.diffusion.descriptions import config_for_diffusers
from nemo_cosmos.checkpoint.diffusion.keys import diffusers_names, split_rows
from nemo_cosmos.checkpoint.formats.json_files import write_object
from nemo_cosmos.checkpoint.formats.safetensors import usual_order, write_safetensors
from nemo_cosmos.checkpoint.formats.tensors import (
    MemorySource,
    named_tensors,
    stream_of,
)
from nemo_cosmos.errors import CheckpointError, ConfigError
from nemo_cosmos.models.diffusion.build import build_network
from nemo_cosmos.models.diffusion.settings import diffusion_settings
from nemo_cosmos.platform import ensure_model_parallel

LORA_FILE = "pytorch_lora_weights.safetensors"
DIFFUSERS_PREFIX = "transformer."
PEFT_PREFIX = "base_model.model."


def write_diffusers_adapter(folder: Path, adapter: Adapter) -> None:
    """Write an adapter for diffusers and PEFT.

    Args:
        folder: the new folder.
        adapter: the adapter.

    Raises:
        ConfigError: diffusers has no such network, or weights were trained in full.
        NumericsError: a number is NaN or infinite.
        CheckpointError: it changes nothing, or has tensors that are of no weight of its world.
    """
    config_for_diffusers(adapter.config.world)
    if adapter.whole:
        raise ConfigError(
            f"The adapter '{adapter.folder}' holds '{adapter.whole[0]}' in full, which is no "
            "adapter to diffusers. Merge it into its world and export that: nemo-cosmos export "
            f"WORLD TARGET --adapter {adapter.folder} --format diffusers."
        )
    _check_places(adapter)
    check_effect(adapter)
    tensors = dict(_renamed(adapter))
    folder.mkdir()
    for file, prefix in ((LORA_FILE, DIFFUSERS_PREFIX), (WEIGHTS_FILE, PEFT_PREFIX)):
        named = usual_order({prefix + name: tensor for name, tensor in tensors.items()})
        write_safetensors(folder / file, stream_of(MemorySource(named)))
    targets = sorted({name.rpartition(".lora_")[0] for name in tensors})
    rank = adapter.config.rank
    content = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": targets,
        "inference_mode": True,
    }
    write_object(folder / CONFIG_FILE, content)


def _check_places(adapter: Adapter) -> None:
    """Require the adapted weights to be the world's, of their shapes.

    Raises:
        CheckpointError: one is not.
    """
    settings = diffusion_settings(adapter.config.world.model)
    ensure_model_parallel()
    with torch.device("meta"):
        whole = named_tensors(build_network(settings.network_config(), settings.process))
    specs = adapter.source.specs
    for name, (a, b) in adapter.pairs.items():
        found = (specs[b].shape[0], specs[a].shape[1])
        there = tuple(whole[name].shape) if name in whole else "no such weight"
        if found != there:
            raise CheckpointError(
                broken(adapter, f"it adapts '{name}' of {found}, where the world has {there}")
            )


def _renamed(adapter: Adapter) -> Iterator[tuple[str, Tensor]]:
    """The factors of each of diffusers' maps, by their names without a prefix."""
    network = diffusion_settings(adapter.config.world.model).network_config()
    theirs = diffusers_names(network)
    for ours, (a, b) in adapter.pairs.items():
        scaled = adapter.source.read(b).float() * adapter.config.scale
        parts = split_rows(scaled, len(theirs[ours]), network.num_attention_heads)
        for name, part in zip(theirs[ours], parts, strict=True):
            place = name.removesuffix(WEIGHT)
            yield f"{place}.lora_A.weight", adapter.source.read(a).float()
            yield f"{place}.lora_B.weight", part.contiguous()
