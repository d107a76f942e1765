"""Low-rank adapters (LoRA) of linear maps: ``y = W x + (alpha / rank) B A x``, with W frozen.

The map's own class is extended in place, as NeMo does for plain linear maps, so that ``weight``
keeps its name in every checkpoint; ``A`` and ``B`` are ``adapter.lora_a`` and ``adapter.lora_b``
beside it. NeMo's ``ParallelLinearAdapter`` does not fit the layers here:

- it writes the B of every ``linear_fc1`` as two halves, gate and up; ours interleaves the two, or
  has no gate, so that a checkpoint of two tensor-parallel ranks would load wrongly on one;
- it splits A over the ranks and gathers whole tokens before it, where here tokens are first mapped
  to the rank's few channels and these are sent: a hundredth of the traffic, and any rank divides;
- it draws A on each rank for itself, so that another layout would begin with another adapter.

Shape suffixes: L tokens, B batch, R rank of the adapter.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel.layers import (
    ColumnParallelLinear,
    RowParallelLinear,
    set_tensor_model_parallel_attributes,
)
from megatron.core.tensor_parallel.mappings import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter_to_sequence_parallel_region,
)
from megatron.core.transformer.utils import make_sharded_tensors_for_checkpoint
from torch import Tensor, nn

from nemo_cosmos.models.common.megatron.parts import LAYER
from nemo_cosmos.models.common.norms import ReplicatedLinear
from nemo_cosmos.platform import kernels

ADAPTER = "adapter"
"""Name of a map's adapter among its parts."""

Split: TypeAlias = Literal["column", "row"]
"""Whether tensor-parallel ranks split a map's output or its input."""


@dataclass(frozen=True)
class Stacked:
    """Where a layer's adapter stands among those of equal maps, where not all layers have one.

    A checkpoint stacks equal weights of all layers, and a stack with gaps is refused.

    Attributes:
        layer: the layer's number in the whole network.
        index: how many layers before it have the adapter.
        num_layers: how many layers have it.
    """

    layer: int
    index: int
    num_layers: int


class LowRank(nn.Module):
    """The two small factors beside a linear map. B is zero at first, so that nothing changes.

    Args:
        base: the map.
        rank: channels between the factors.
        alpha: the product counts ``alpha / rank`` times.
        dropout: share of the input that is dropped in training.
        seed: A is drawn from it, alike in every layout.
        stacked: its place among the adapters of other layers; None where all layers have one.
    """

    def __init__(
        self,
        base: nn.Module,
        rank: int,
        alpha: float,
        dropout: float,
        seed: int,
        stacked: Stacked | None = None,
    ) -> None:
        super().__init__()
        self.stacked = stacked
        self.scale, self.dropout = alpha / rank, dropout
        self.split = split_of(base)
        weight: Any = base.weight
        # Tokens are spread over the tensor-parallel ranks before a column's map and after a row's.
        self.spreads_tokens = bool(getattr(base, "sequence_parallel", False))
        group = ProcessGroupCollection.use_mpu_process_groups(["tp"]).tp
        num_parts, place = (group.size(), group.rank()) if self.split else (1, 0)
        rows, columns = weight.shape
        whole_columns = columns * num_parts if self.split == "row" else columns
        a = _draw(rank, whole_columns, seed, weight)
        if self.split == "row":
            a = a.chunk(num_parts, dim=1)[place].clone()
        self.lora_a = nn.Parameter(a)
        self.lora_b = nn.Parameter(torch.zeros(rows, rank, dtype=a.dtype, device=a.device))
        for factor, split, axis in ((self.lora_a, "row", 1), (self.lora_b, "column", 0)):
            if self.split == split:
                set_tensor_model_parallel_attributes(factor, True, axis, 1)
            elif self.split:  # the factor that every rank holds sees this rank's tokens
                factor.sequence_parallel = self.spreads_tokens  # type: ignore[attr-defined]
            else:
                on_share = getattr(weight, "sequence_parallel", False)
                factor.sequence_parallel = on_share  # type: ignore[attr-defined]
            if stacked is not None:
                setattr(factor, LAYER, stacked.layer)

    def forward(self, x: Tensor) -> Tensor:
        """What the adapter adds to the map's output for its input, whose last axis is mapped."""
        dropped = nn.functional.dropout(x, self.dropout, self.training) if self.dropout else x
        x_LBR = kernels.linear(dropped, self.lora_a)
        if self.split == "column":
            x_LBR = (
                gather_from_sequence_parallel_region(x_LBR)
                if self.spreads_tokens
                else copy_to_tensor_model_parallel_region(x_LBR)
            )
        elif self.split == "row":
            x_LBR = (
                reduce_scatter_to_sequence_parallel_region(x_LBR)
                if self.spreads_tokens
                else reduce_from_tensor_model_parallel_region(x_LBR)
            )
        return kernels.linear(x_LBR, self.lora_b) * self.scale

    def sharded_state_dict(
        self,
        prefix: str = "",
        sharded_offsets: tuple[Any, ...] = (),
        metadata: dict[str, object] | None = None,
    ) -> dict[str, object]:
        """The factors' entries of a distributed checkpoint."""
        del metadata
        if self.stacked is not None and sharded_offsets:
            sharded_offsets = ((0, self.stacked.index, self.stacked.num_layers),)
        axes = {"row": {"lora_a": 1}, "column": {"lora_b": 0}, None: {}}[self.split]
        state: dict[str, object] = make_sharded_tensors_for_checkpoint(
            self.state_dict(prefix="", keep_vars=True), prefix, axes, sharded_offsets
        )
        return state


def split_of(base: nn.Module) -> Split | None:
    """How tensor-parallel ranks split a linear map; None where each holds all of it."""
    if isinstance(base, ColumnParallelLinear):
        return "column"
    if isinstance(base, RowParallelLinear):
        return "row"
    mode = getattr(base, "parallel_mode", None)  # Transformer Engine's
    return mode if mode in ("column", "row") else None


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear map that can have an adapter."""
    known = isinstance(module, ColumnParallelLinear | RowParallelLinear | ReplicatedLinear)
    return known or hasattr(module, "parallel_mode")


def add_adapter(
    base: nn.Module,
    rank: int,
    alpha: float,
    dropout: float,
    name: str,
    stacked: Stacked | None = None,
) -> None:
    """Give a linear map an adapter, in place.

    Args:
        base: the map; see :func:`is_linear`.
        rank: channels between the factors.
        alpha: the product counts ``alpha / rank`` times.
        dropout: share of the input that is dropped in training.
        name: the map's name in the whole network, and what else its A is to depend on.
        stacked: its place among the adapters of other layers; None where all layers have one.
    """
    adapter = LowRank(base, rank, alpha, dropout, zlib.crc32(name.encode()), stacked)
    base.__class__ = _adapted(type(base))
    base.add_module(ADAPTER, adapter)


class _Adapted(nn.Module):
    """What the class of a map becomes the subclass of, before the map's own class."""

    adapter: LowRank

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Any:
        """The map's output, with what the adapter adds; Megatron's maps return a bias beside it."""
        out: Any = super().forward(x, *args, **kwargs)
        if isinstance(out, tuple):
            return (out[0] + self.adapter(x), *out[1:])
        return out + self.adapter(x)


class _AdaptedParallel(_Adapted):
    """The same, for maps that write their own entries of a checkpoint."""

    def sharded_state_dict(
        self,
        prefix: str = "",
        sharded_offsets: tuple[Any, ...] = (),
        metadata: dict[str, object] | None = None,
    ) -> dict[str, object]:
        """The map's entries of a distributed checkpoint, and the adapter's."""
        own: dict[str, object] = super().sharded_state_dict(  # type: ignore[misc]
            prefix, sharded_offsets, metadata
        )
        inner = f"{prefix}{ADAPTER}."
        # The map takes all that it holds for its own, and ranks to hold the same of the factors.
        state = {name: entry for name, entry in own.items() if not name.startswith(inner)}
        return state | self.adapter.sharded_state_dict(inner, sharded_offsets, metadata)


_CLASSES: dict[type, type[nn.Module]] = {}


def _adapted(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of a map of this class with an adapter; one for each."""
    if kind not in _CLASSES:
        base = _AdaptedParallel if hasattr(kind, "sharded_state_dict") else _Adapted
        _CLASSES[kind] = type(f"Adapted{kind.__name__}", (base, kind), {})
    return _CLASSES[kind]


def _draw(rank: int, columns: int, seed: int, weight: Tensor) -> Tensor:
    """The whole A, uniform as PyTorch draws a linear map."""
    if weight.is_meta:
        return torch.empty(rank, columns, dtype=weight.dtype, device="meta")
    bound = 1 / math.sqrt(columns)
    generator = torch.Generator().manual_seed(seed)
    with torch.device("cpu"):
        drawn = torch.empty(rank, columns).uniform_(-bound, bound, generator=generator)
    return drawn.to(weight)
