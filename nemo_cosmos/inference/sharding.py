"""Share a network's weights out over the processes that generate together.

Every process of ``torchrun -m nemo_cosmos generate ...`` needs all layers, but not at once: each
keeps a part of every layer, and a layer is put together while it computes (PyTorch's FSDP2). A
process then holds 1/N of the weights and the layer at work. What it computes is unchanged.
"""

from __future__ import annotations

from dataclasses import replace
from os import PathLike

import torch
from torch import nn

from nemo_cosmos.checkpoint.world.folder import World, load_world
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.family import get_family
from nemo_cosmos.platform import default_device, divisors, num_processes


def load_shared_world(path: str | PathLike[str], dtype: torch.dtype, tp: int = 1) -> World:
    """Read a world-model folder; with several processes, share weights and video out.

    Tensor-parallel processes split the weights of each layer. The rest split the tokens of the
    video; without tensor parallelism they share the weights as told above.

    The weights are read into the CPU's memory and moved on layer by layer, so that a GPU never
    holds the whole network.

    Args:
        path: the folder.
        dtype: precision to compute in.
        tp: tensor-parallel processes.

    Raises:
        ConfigError: ``tp`` does not divide the processes or the heads.
        InputError, CheckpointError, NumericsError: as :func:`load_world`.
    """
    processes = num_processes()
    if processes % tp:
        raise ConfigError(
            f"{tp} tensor-parallel processes do not divide the {processes} of this run. Choose "
            f"one of {divisors(processes)}, or start another number of processes."
        )
    cp = processes // tp
    if processes == 1 or tp > 1:
        return load_world(path, dtype, tp=tp, cp=cp)
    world = load_world(path, dtype, device=torch.device("cpu"), cp=cp)
    get_family(world.config.family).share_weights(world.net)
    return replace(world, tokenizer=world.tokenizer.to(default_device()))


def local_bytes(net: nn.Module) -> int:
    """Bytes of weights that this process holds."""
    return sum(
        local.numel() * local.element_size()
        for parameter in net.parameters()
        for local in [parameter.to_local() if hasattr(parameter, "to_local") else parameter]
    )
