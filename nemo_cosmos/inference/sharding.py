"""Share a network's weights out over the processes that generate together.

Every process of ``torchrun -m nemo_cosmos generate ...`` needs all layers, but not at once: each
keeps a part of every layer, and a layer is put together while it computes (PyTorch's FSDP2). A
process then holds 1/N of the weights and the layer at work. What it computes is unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from nemo_cosmos.checkpoint.world.folder import World, load_world
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.build import WorldNetwork
from nemo_cosmos.models.diffusion.network.config import divisors
from nemo_cosmos.platform import default_device, num_processes


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
    shard_weights(world.net)
    return replace(world, tokenizer=world.tokenizer.to(default_device()))


def shard_weights(net: WorldNetwork) -> None:
    """Keep this process's part of every weight, in place; the process group has to be there.

    The control stays whole: it is small, and called on its own.

    Args:
        net: the network, whole on each process, on any device.
    """
    device = default_device()
    mesh = init_device_mesh(device.type, (num_processes(),))
    whole = [module.to(device) for module in (net.control, net.logvar) if module is not None]
    for layer in net.blocks.layers:
        # The text's keys and values are computed on their own, once for all sampling steps.
        fully_shard(layer.cross_attention, mesh=mesh)
        register_fsdp_forward_method(layer.cross_attention, "project_context")
        fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh, reshard_after_forward=True, ignored_params=_parameters(whole))
    register_fsdp_forward_method(net, "encode_text")


def local_bytes(net: nn.Module) -> int:
    """Bytes of weights that this process holds."""
    return sum(
        local.numel() * local.element_size()
        for parameter in net.parameters()
        for local in [parameter.to_local() if hasattr(parameter, "to_local") else parameter]
    )


def _parameters(modules: Sequence[nn.Module]) -> set[nn.Parameter]:
    return {parameter for module in modules for parameter in module.parameters()}
