"""Which keys a query sees: descriptions of masks that every attention core understands.

Tokens have positions, 0 for the first of a sequence. Under each of these masks but a tree's a query
sees one run of positions, so a mask is two numbers for each query and never a matrix of tokens by
tokens: cores skip blocks that are hidden, leave blocks alone that are visible, and compare
positions in the rest.

Shape suffixes: L queries, M keys, B batch.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import torch
from megatron.core.transformer.enums import AttnMaskType

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import upload
from nemo_cosmos.platform.kernels import KeyRanges, KeyTable

Position = TypeVar("Position", int, torch.Tensor)
UNBOUNDED = 2**62
MOST_REMEMBERED = 512
"""Queries of a decoder's pass; a mask of more would take memory between the passes."""


class Visibility(enum.Enum):
    """How much of a block of keys a block of queries sees."""

    NOTHING = enum.auto()
    SOME = enum.auto()
    ALL = enum.auto()


class MaskBase(ABC):
    """A run of visible positions for each query; both ends never fall along the sequence."""

    @abstractmethod
    def first_of(self, position: Position) -> Position:
        """Position of the first key that a query sees."""

    @abstractmethod
    def end_of(self, position: Position) -> Position:
        """Position behind the last key that a query sees, whether or not there are keys so far."""

    def visibility(self, queries: range, keys: range) -> Visibility:
        """How much the queries of one run of positions see of another run."""
        if self.end_of(queries[-1]) <= keys.start or self.first_of(queries[0]) >= keys.stop:
            return Visibility.NOTHING
        # The last query sees least of the beginning, the first query least of the end.
        whole = self.first_of(queries[-1]) <= keys.start and keys.stop <= self.end_of(queries[0])
        return Visibility.ALL if whole else Visibility.SOME

    def is_visible(self, query_L: torch.Tensor, key_M: torch.Tensor) -> torch.Tensor:
        """Compare positions: (L, M), True where the query sees the key."""
        first_L1 = self.first_of(query_L)[:, None]
        end_L1 = self.end_of(query_L)[:, None]
        return (key_M >= first_L1) & (key_M < end_L1)


@dataclass(frozen=True)
class FullMask(MaskBase):
    """Every query sees every key."""

    def first_of(self, position: Position) -> Position:
        """Zero."""
        return position * 0

    def end_of(self, position: Position) -> Position:
        """Behind every sequence."""
        return position * 0 + UNBOUNDED


@dataclass(frozen=True)
class CausalMask(MaskBase):
    """A query sees itself and what is before it.

    Attributes:
        window: number of positions that it sees, its own included; None for all.
    """

    window: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ConfigError(f"window={self.window} hides every key; it must be 1 or more.")

    def first_of(self, position: Position) -> Position:
        """The beginning of the window."""
        if self.window is None:
            return position * 0
        return _at_least(position - (self.window - 1), 0)

    def end_of(self, position: Position) -> Position:
        """The next position."""
        return position + 1


@dataclass(frozen=True)
class BlockCausalMask(MaskBase):
    """A query sees its own block, such as a latent frame, and the blocks before it.

    Attributes:
        block_size: number of tokens of a block.
        window_blocks: number of blocks that a query sees, its own included; None for all.
    """

    block_size: int
    window_blocks: int | None = None

    def __post_init__(self) -> None:
        for name in ("block_size", "window_blocks"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value} is not a size; it must be 1 or more.")

    def first_of(self, position: Position) -> Position:
        """The beginning of the first block in the window."""
        if self.window_blocks is None:
            return position * 0
        block = position // self.block_size - (self.window_blocks - 1)
        return _at_least(block, 0) * self.block_size

    def end_of(self, position: Position) -> Position:
        """The end of the query's own block."""
        return (position // self.block_size + 1) * self.block_size


@dataclass(frozen=True)
class TreeMask:
    """Queries are a tree behind a sequence: each sees the sequence, its ancestors and itself.

    It serves decoders, which append a tree of guesses to a cache.

    Attributes:
        parents: number of each node's parent, below its own; -1 for a root.
    """

    parents: tuple[int, ...]

    def __post_init__(self) -> None:
        for node, parent in enumerate(self.parents):
            if not -1 <= parent < node:
                raise ConfigError(
                    f"Node {node} of a tree has the parent {parent}; it must be a node before it, "
                    "or -1 for a root."
                )

    def table(self, num_keys: int, offsets: Sequence[int], device: torch.device | None) -> KeyTable:
        """Among all keys; see :func:`key_ranges`."""
        num_nodes = len(self.parents)
        first_B1 = torch.tensor(offsets, device=device)[:, None]
        node_BM = torch.arange(num_keys, device=device) - first_B1  # below 0 in the sequence
        seen_LL = _ancestors(self.parents, device)
        among_BLM = seen_LL[:, node_BM.clamp(0, num_nodes - 1)].transpose(0, 1)
        among_BLM = among_BLM & (node_BM < num_nodes)[:, None]
        seen_BLM = among_BLM | (node_BM < 0)[:, None]
        return KeyTable(seen_BLM[0] if len(set(offsets)) == 1 else seen_BLM[:, None])


@lru_cache(maxsize=64)
def _ancestors(parents: tuple[int, ...], device: torch.device | None) -> torch.Tensor:
    """Among the nodes of a tree: (L, L), True where the query sees the key.

    Every layer of every pass asks for it.
    """
    seen_LL = torch.eye(len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            seen_LL[node] |= seen_LL[parent]
    return seen_LL.to(device)


RunMask: TypeAlias = FullMask | CausalMask | BlockCausalMask
"""A mask under which a query sees one run of positions."""
Mask: TypeAlias = RunMask | TreeMask

FULL = FullMask()
CAUSAL = CausalMask()


def mask_of(kind: AttnMaskType) -> Mask:
    """Return the mask that a layer spec asks for by Megatron's word.

    Raises:
        ConfigError: a mask that needs a matrix of tokens by tokens.
    """
    if kind is AttnMaskType.no_mask:
        return FULL
    if kind is AttnMaskType.causal:
        return CAUSAL
    raise ConfigError(
        f"The layer spec asks for {kind}, which these attentions do not take. Use no_mask or "
        "causal, or give the layer a description of "
        "nemo_cosmos.models.common.attention.masks."
    )


def key_ranges(
    mask: Mask,
    num_queries: int,
    num_keys: int,
    offsets: Sequence[int] = (0,),
    device: torch.device | None = None,
) -> KeyRanges | KeyTable | None:
    """Return what the platform's attention needs of a mask; None where every key is seen.

    Args:
        mask: the mask.
        num_queries: L, number of queries in a row.
        num_keys: M, number of keys; the first is at position 0.
        offsets: position of the first query, one for each sample or one for all. A sample's keys
            end with its last query; what is behind them, in a longer sample's room, is hidden.
        device: where attention runs.

    Raises:
        ConfigError: the queries are not the nodes of the mask's tree.
    """
    arguments = (mask, num_queries, num_keys, tuple(offsets), device)
    if num_queries > MOST_REMEMBERED or torch.is_grad_enabled():
        return _key_ranges(*arguments)
    return _remembered_ranges(*arguments, torch.is_inference_mode_enabled())


@lru_cache(maxsize=2)
def _remembered_ranges(*arguments: Any) -> KeyRanges | KeyTable | None:
    """The ranges of a decoder's pass, which every layer of it asks for.

    Those made in inference mode are kept apart: training could not use them.
    """
    return _key_ranges(*arguments[:-1])


def _key_ranges(
    mask: Mask,
    num_queries: int,
    num_keys: int,
    offsets: tuple[int, ...],
    device: torch.device | None,
) -> KeyRanges | KeyTable | None:
    same = len(set(offsets)) == 1
    if isinstance(mask, TreeMask):
        if len(mask.parents) != num_queries:
            raise ConfigError(
                f"A tree of {len(mask.parents)} nodes masks {num_queries} queries. Feed the nodes "
                "of the tree, all at once."
            )
        return mask.table(num_keys, offsets, device)
    if mask == FULL and same:
        return None  # also where queries and keys are of two sequences
    queries = range(offsets[0], offsets[0] + num_queries)
    if same and mask.visibility(queries, range(num_keys)) is Visibility.ALL:
        return None  # such as one query behind all keys, the step of a decoder
    first_B1 = torch.tensor(offsets[:1] if same else offsets)[:, None]
    if device is not None:
        first_B1 = upload(first_B1, device)
    position_BL = first_B1 + torch.arange(num_queries, device=device)
    first_BL = mask.first_of(position_BL)
    end_BL = torch.minimum(mask.end_of(position_BL), first_B1 + num_queries)
    is_triangle = mask == CAUSAL and same and offsets[0] == 0 and num_queries == num_keys
    return KeyRanges(first_BL[0] if same else first_BL, end_BL[0] if same else end_BL, is_triangle)


def _at_least(value: Position, least: int) -> Position:
    return value.clamp(min=least) if isinstance(value, torch.Tensor) else max(value, least)
