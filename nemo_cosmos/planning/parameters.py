"""Parameters of the built network by where they live, counted on torch's meta device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from torch import nn

from nemo_cosmos.models.diffusion.build import ControlSpec, build_control_module
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.process.edm import LogVariance
from nemo_cosmos.platform import install_cpu_backend
from nemo_cosmos.platform.distributed import single_process_groups


@dataclass(frozen=True)
class Parameters:
    """Counts of a diffusion network's parameters.

    Attributes:
        layers: how many layers there are.
        layer_sharded: of one layer, split over the tensor-parallel processes.
        layer_replicated: of one layer, held by each of them.
        every_stage: outside the layers, on every pipeline stage: noise level, position, control.
        first_stage: on the first stage alone: patches.
        last_stage: on the last stage alone: output.
        logvar: the learned variance of the loss, which belongs to training and is not exported
            with the published models; on the last stage.
    """

    layers: int
    layer_sharded: int
    layer_replicated: int
    every_stage: int
    first_stage: int
    last_stage: int
    logvar: int

    @property
    def network(self) -> int:
        """The network with its control, as a released model has them."""
        layers = self.layers * (self.layer_sharded + self.layer_replicated)
        return layers + self.every_stage + self.first_stage + self.last_stage

    @property
    def trained(self) -> int:
        """All that the optimiser steps."""
        return self.network + self.logvar

    def on_stage(self, tp: int, pp: int) -> int:
        """Most parameters that a process holds, over the pipeline stages."""
        layers = self.layers // pp * (self.layer_sharded // tp + self.layer_replicated)
        last = self.last_stage + self.logvar
        ends = self.first_stage + last if pp == 1 else max(self.first_stage, last)
        return layers + self.every_stage + ends


def count(config: DiTConfig, control: ControlSpec | None, learned_variance: bool) -> Parameters:
    """Build the network without memory and count it.

    Args:
        config: of the network.
        control: what steers it.
        learned_variance: whether training learns the variance of the loss.
    """
    install_cpu_backend()
    config = DiTConfig.from_architecture(
        config.architecture(),
        use_cpu_initialization=True,
        perform_initialization=False,
        layer_spec="local",
    )
    with torch.device("meta"):
        net = DiT(config, pg_collection=single_process_groups())
        steering = build_control_module(control, config)
        logvar = LogVariance() if learned_variance else None
    layer = net.blocks.layers[0]
    sharded = sum(
        _size([module])
        for module in layer.modules()
        if isinstance(module, ColumnParallelLinear | RowParallelLinear)
    )
    inside, first, last = _size([net.blocks]), _size([net.patch_embed]), _size([net.final_layer])
    return Parameters(
        layers=config.num_layers,
        layer_sharded=sharded,
        layer_replicated=_size([layer]) - sharded,
        every_stage=_size([net, steering]) - inside - first - last,
        first_stage=first,
        last_stage=last,
        logvar=_size([logvar]),
    )


def _size(modules: Iterable[nn.Module | None]) -> int:
    return sum(p.numel() for module in modules if module for p in module.parameters())
