"""Load a world for generation: alone, or shared by the ranks that generate together."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from os import PathLike

import torch
from torch import Tensor, nn

from nemo_cosmos.checkpoint.adapters.merged import Weighted, merge_adapters
from nemo_cosmos.checkpoint.world.folder import World, load_world
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.family import get_family
from nemo_cosmos.platform import by_device, default_device, is_first_process, num_processes


def load_shared_world(
    path: str | PathLike[str],
    dtype: torch.dtype | None = None,
    tp: int = 1,
    allow_mismatch: Collection[str] = (),
    adapters: Sequence[Weighted] = (),
    device: torch.device | None = None,
) -> World:
    """Read a world folder; with several ranks, share weights and video out.

    Tensor-parallel ranks split the weights of each layer. The rest split the tokens of the video;
    without tensor parallelism each keeps a part of every weight, and a layer is gathered while it
    computes.

    The weights are read into the CPU's memory and moved on layer by layer, so that a GPU never
    holds the whole network.

    Args:
        path: the folder.
        dtype: precision to compute in; that of :func:`default_dtype` by default.
        tp: tensor-parallel ranks.
        allow_mismatch: kinds of difference between the world's parts that are meant.
        adapters: what is put on the weights; the run says what each did to them.
        device: where to put the model, where ranks do not share the video; the default device if
            not given.

    Raises:
        ConfigError: ``tp`` does not divide the ranks or the heads.
        InputError, CheckpointError, NumericsError: as :func:`load_world`.
    """
    dtype = dtype or default_dtype()
    ranks = num_processes()
    if ranks % tp:
        legal = [size for size in range(1, ranks + 1) if ranks % size == 0]
        raise ConfigError(
            f"{tp} tensor-parallel processes do not divide the {ranks} of this run. Choose one of "
            f"{legal}, or start another number of processes."
        )
    cp = ranks // tp
    adapted = None
    if adapters:
        adapted = merge_adapters(path, adapters, allow_mismatch)
        if is_first_process():
            print(*(one.words() for one in adapted.applied), sep="\n", file=sys.stderr)
    if ranks == 1 or tp > 1:
        return load_world(
            path, dtype, device, tp=tp, cp=cp, allow_mismatch=allow_mismatch, adapted=adapted
        )
    cpu = torch.device("cpu")
    world = load_world(
        path, dtype, device=cpu, cp=cp, allow_mismatch=allow_mismatch, adapted=adapted
    )
    get_family(world.config.family).share_weights(world.net)
    return replace(world, tokenizer=world.tokenizer.to(default_device()))


def default_dtype() -> torch.dtype:
    """The precision to generate in: bfloat16 on a GPU, float32 on a CPU.

    A GPU's attention kernels take no float32: the scores of a whole video would be laid out.
    """
    return by_device(torch.float32, torch.bfloat16)


def local_bytes(holder: object) -> int:
    """Bytes of weights and buffers that this rank holds.

    Args:
        holder: a network, or an object with networks as attributes.
    """
    if not isinstance(holder, nn.Module):
        parts = vars(holder).values() if hasattr(holder, "__dict__") else ()
        return sum(local_bytes(part) for part in parts if isinstance(part, nn.Module))
    return sum(_bytes(tensor) for tensor in (*holder.parameters(), *holder.buffers()))


def _bytes(tensor: Tensor) -> int:
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return int(local.numel()) * int(local.element_size())
