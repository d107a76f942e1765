"""What a run with adapters leaves: the adapter alone, and the world with it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from nemo_cosmos.checkpoint.adapters.folder import (
    ADAPTER_FOLDER,
    LORA_A,
    LORA_B,
    AdapterConfig,
    save_adapter,
)
from nemo_cosmos.checkpoint.adapters.merged import Weighted, merge_adapters
from nemo_cosmos.checkpoint.formats.tensors import TensorSource, stream_of
from nemo_cosmos.checkpoint.world.config import WEIGHTS_FILE, WorldConfig, read_config
from nemo_cosmos.checkpoint.world.folder import open_weights, write_world
from nemo_cosmos.errors import CheckpointError
from nemo_cosmos.models.common.megatron.low_rank import ADAPTER
from nemo_cosmos.training.adapters.lora import LoRA
from nemo_cosmos.training.weights.initial import InitialWeights

_FACTORS = {f".{ADAPTER}.lora_a": LORA_A, f".{ADAPTER}.lora_b": LORA_B}


def save_adapted(
    folder: Path,
    state: Mapping[str, Tensor],
    config: WorldConfig,
    tokenizer: str | PathLike[str],
    peft: LoRA,
    start: InitialWeights,
) -> None:
    """Write the adapter beside the folder of a run's export, and the export with it merged.

    Args:
        folder: the export's folder.
        state: the whole network as it was trained, with its adapters.
        config: the adapted world's description.
        tokenizer: the folder of its tokenizer.
        peft: what was trained.
        start: the base, from which training started.

    Raises:
        CheckpointError: a frozen weight has changed, or the adapter changes nothing.
    """
    base = Path(start.folder)
    source = open_weights(base / WEIGHTS_FILE)
    tensors = adapter_tensors(state, source, peft.trained_modules)
    _check_frozen(state, tensors, source)
    described = AdapterConfig(
        rank=peft.dim,
        alpha=peft.alpha,
        dropout=peft.dropout,
        target_modules=tuple(peft.target_modules),
        trained_modules=tuple(peft.trained_modules),
        base=str(base.resolve()),
        base_preset=read_config(base).preset,
        base_sha256=start.sha256,
        world=config,
    )
    place = folder.with_name(ADAPTER_FOLDER)
    save_adapter(place, described, tensors)
    allowed = {text.partition(":")[0] for text in config.allowed_mismatch}
    whole = {
        name: tuple(x.shape) for name, x in state.items() if not name.endswith(tuple(_FACTORS))
    }
    merged = merge_adapters(base, [Weighted(place)], allowed, whole)
    print(merged.applied[0].words(), file=sys.stderr)
    write_world(folder, config, stream_of(merged.source), tokenizer, place=merged.source.place)


def adapter_tensors(
    state: Mapping[str, Tensor], base: TensorSource, trained_modules: tuple[str, ...]
) -> dict[str, Tensor]:
    """The tensors of an adapter by their names in its file.

    Args:
        state: the network as it was trained.
        base: the weights that it started from.
        trained_modules: modules that were trained in full.
    """
    found = {}
    for name, tensor in state.items():
        factor = next((one for one in _FACTORS if name.endswith(one)), None)
        if factor is not None:
            found[name.removesuffix(factor) + _FACTORS[factor]] = tensor
        elif name not in base.specs or not set(trained_modules).isdisjoint(name.split(".")):
            found[name] = tensor
    return found


def _check_frozen(
    state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], base: TensorSource
) -> None:
    """Require the weights that were not trained to be the base's, bit by bit.

    Raises:
        CheckpointError: one is another, so that the adapter would not make up the trained model.
    """
    for name in base.specs:
        if name in tensors:
            continue
        there = base.read(name)
        here = state[name].to("cpu")
        if not torch.equal(there.to(here.dtype), here):
            raise CheckpointError(
                f"'{name}' was frozen and is not the base's of '{base.place}' any more, so that "
                "the adapter alone does not hold what was trained. The base was replaced while "
                "training ran; train again."
            )
