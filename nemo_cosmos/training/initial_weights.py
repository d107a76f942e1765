"""Post-training starts here: weights of an exported folder, loaded into a freshly built model."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from nemo.lightning.io.mixin import IOMixin
from torch import nn

from nemo_cosmos.checkpoint.formats.safetensors import SafetensorsSource, has_weights
from nemo_cosmos.checkpoint.formats.tensors import MAX_NAMED
from nemo_cosmos.errors import CheckpointError, nearest_names
from nemo_cosmos.models.common.megatron.parts import parts_of
from nemo_cosmos.models.diffusion.world import CONFIG_FILE, WEIGHTS_FILE

logger = logging.getLogger(__name__)


def is_exported(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is an export (``config.json`` and ``model.safetensors``)."""
    return (Path(folder) / CONFIG_FILE).is_file() and has_weights(Path(folder) / WEIGHTS_FILE)


class InitialWeights(pl.Callback, IOMixin):
    """Load an exported model's weights before the first step.

    Parameters that the export lacks are allowed where they are new, such as those of a control
    that post-training adds; they keep their initial values and are named in the log. Each rank
    reads only its slice of a tensor that is split over ranks.

    Hooks:

    - ``on_fit_start``: load, unless a checkpoint of this run is about to be restored; then copy the
      weights to the optimiser's float32 copies.

    Args:
        folder: with ``config.json`` and ``model.safetensors``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.new_names: list[str] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the weights."""
        if trainer.ckpt_path:
            return
        networks = bare_networks(trainer)
        self.new_names = load_exported(networks, Path(self.folder) / WEIGHTS_FILE)
        trainer.strategy.weights_written(step_from_them=True)
        if self.new_names:
            logger.info("New parameters, not in '%s': %s", self.folder, ", ".join(self.new_names))


def bare_network(module: Any) -> nn.Module:
    """The network inside a Lightning module, without Megatron's wrappers."""
    while isinstance(getattr(module, "module", None), nn.Module):
        module = module.module
    return module


def bare_networks(trainer: pl.Trainer) -> list[nn.Module]:
    """The networks of this process: one, or one a virtual pipeline stage."""
    return [bare_network(chunk) for chunk in trainer.strategy.megatron_parallel]


@torch.no_grad()
def load_exported(networks: Sequence[nn.Module], weights: Path) -> list[str]:
    """Copy tensors of a safetensors file into a network.

    Args:
        networks: this process's part of the network, or its parts where a pipeline stage has
            several. Each process reads only its part of each tensor.
        weights: of the whole network, in one file or in shards, with the names of
            ``network.state_dict()``.

    Returns:
        names of the network's parameters that the file lacks.

    Raises:
        CheckpointError: the file holds tensors that the network lacks, or of another shape, or
            shares no name with it.
    """
    shards = [shard for network in networks for shard in parts_of(network)]
    file = SafetensorsSource(weights)
    saved = set(file.specs)
    _check_names(saved, {shard.name for shard in shards}, weights)
    for shard in shards:
        if shard.name not in saved:
            continue
        part = file.read_part(shard.name, shard.slices)
        if tuple(file.specs[shard.name].shape) != shard.whole_shape:
            raise CheckpointError(
                f"'{shard.name}' has shape {file.specs[shard.name].shape} in '{weights}' but "
                f"{shard.whole_shape} in this model. Use the recipe that the weights were "
                "trained with."
            )
        shard.tensor.copy_(part)
    return sorted({shard.name for shard in shards} - saved)


def _check_names(saved: set[str], here: set[str], weights: Path) -> None:
    """Refuse a file with tensors that no process has.

    Raises:
        CheckpointError: names some of them.
    """
    known = here
    if dist.is_initialized() and dist.get_world_size() > 1:  # stages hold different layers
        listed: list[set[str]] = [set()] * dist.get_world_size()
        dist.all_gather_object(listed, here)
        known = set().union(*listed)
    unknown = sorted(saved - known)
    if unknown or not saved:
        raise CheckpointError(
            f"'{weights}' holds {len(unknown)} tensors that this model does not have, such as "
            f"{', '.join(unknown[:MAX_NAMED])}. The nearest names of the model are "
            f"{nearest_names((unknown or [''])[0], known)}. Use the recipe that the weights were "
            "trained with, or one that adds a control to it."
        )
