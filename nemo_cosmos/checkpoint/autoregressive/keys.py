"""Names of the autoregressive network's weights: ours and the original Cosmos'.

Ours fuses what one product computes, in blocks that tensor-parallel ranks hold whole: queries, keys
and values of one group of heads after the other (``[q.. k v q.. k v ..]``, as Megatron-Core shards
them), keys and values of the text likewise, and gate and up of one channel after the other. The
original keeps one matrix each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from nemo_cosmos.checkpoint.formats.tensors import (
    MemorySource,
    Shapes,
    TensorSource,
    TensorSpec,
    TensorStream,
    check_fit,
    stream_of,
)
from nemo_cosmos.errors import CheckpointError

if TYPE_CHECKING:
    from nemo_cosmos.models.autoregressive.network.config import ARConfig

PREFIX = "model."
"""What stands before every original name, in files but not in the state of a network."""
_ADVICE = "Choose the preset that it was trained with by --model, or another checkpoint."
_OF_RANKS = "Here {}; if there were more, copy their files, too (model_model_mp_<rank>.pt). "


@dataclass(frozen=True)
class _Fused:
    """One of our weights and the original ones that it is made of.

    Attributes:
        parts: the original names.
        num_blocks: number of blocks, each of which holds rows of every part.
        rows: rows of each part in a block.
    """

    parts: tuple[str, ...]
    num_blocks: int = 1
    rows: tuple[int, ...] = ()

    def fuse(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Put the parts together, block by block."""
        if len(parts) == 1:
            return parts[0]
        blocks = [part.unflatten(0, (self.num_blocks, -1)) for part in parts]
        return torch.cat(blocks, dim=1).flatten(0, 1)

    def unfuse(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Take the parts apart."""
        if len(self.parts) == 1:
            return [tensor]
        blocks = tensor.unflatten(0, (self.num_blocks, -1))
        return [part.flatten(0, 1) for part in blocks.split(self.rows, dim=1)]

    def shapes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return the shapes of the parts of a weight of a shape."""
        if len(self.parts) == 1:
            return [shape]
        return [(self.num_blocks * rows, *shape[1:]) for rows in self.rows]


class UnfusedSource:
    """Our weights under original names, one of which can be read alone.

    Args:
        source: the weights of a whole network.
        table: our names, each with its parts.
    """

    def __init__(self, source: TensorSource, table: Mapping[str, _Fused]) -> None:
        self.place = source.place
        self._source, self._table = source, table
        self._owner: dict[str, str] = {}
        self.specs: dict[str, TensorSpec] = {}
        for ours, fused in table.items():
            spec = source.specs[ours]
            for name, shape in zip(fused.parts, fused.shapes(spec.shape), strict=True):
                self.specs[PREFIX + name] = TensorSpec(shape, spec.dtype)
                self._owner[PREFIX + name] = ours

    def read(self, name: str) -> torch.Tensor:
        """Return one original weight."""
        ours = self._owner[name]
        fused = self._table[ours]
        parts = dict(zip(fused.parts, fused.unfuse(self._source.read(ours)), strict=True))
        return parts[name.removeprefix(PREFIX)].contiguous()


def unfused(source: TensorSource, config: ARConfig) -> UnfusedSource:
    """Return our weights under original names.

    Args:
        source: the weights of a whole network.
        config: the network's configuration.

    Raises:
        CheckpointError: a weight is missing.
    """
    table = _table(config)
    missing = [name for name in table if name not in source.specs]
    if missing:
        raise CheckpointError(
            f"The autoregressive network's state lacks the weight '{missing[0]}'. Pass the state "
            "of a whole network (one pipeline stage, unsharded) of the same configuration."
        )
    return UnfusedSource(source, table)


def export_stream(source: TensorSource, config: ARConfig) -> TensorStream:
    """Rename and split our weights into the original ones, one at a time.

    The arguments are those of :func:`unfused`.

    Raises:
        CheckpointError: a weight is missing.
    """
    return stream_of(unfused(source, config))


def import_stream(
    source: TensorSource, config: ARConfig, expected: Shapes | None = None
) -> TensorStream:
    """Rename and fuse original weights into ours, one at a time.

    Args:
        source: the weights, with or without the prefix ``model.``.
        config: the configuration of the network that will take them.
        expected: our names and shapes; without it, only names are compared.

    Raises:
        CheckpointError: the checkpoint is of another model; names what is missing, unknown or of
            another shape.
    """
    table = _table(config)
    given = {name.removeprefix(PREFIX): name for name in source.specs}
    wanted: dict[str, tuple[int, ...]] = {}
    for ours, fused in table.items():
        shapes = fused.shapes(expected[ours]) if expected else [()] * len(fused.parts)
        wanted.update(zip(fused.parts, shapes, strict=True))
    found = {name: source.specs[own].shape if expected else () for name, own in given.items()}
    check_fit(wanted, found, source.place, "this network under original names", _advice(source))
    specs = {}
    for ours, fused in table.items():
        parts = [source.specs[given[name]] for name in fused.parts]
        rows = sum(part.shape[0] for part in parts)
        specs[ours] = TensorSpec((rows, *parts[0].shape[1:]), parts[0].dtype)

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for ours, fused in table.items():
            yield ours, fused.fuse([source.read(given[name]) for name in fused.parts])

    return TensorStream(specs, tensors())


def export_ar_state(state: Mapping[str, object], config: ARConfig) -> dict[str, torch.Tensor]:
    """Run :func:`export_stream` on a state dict in memory."""
    return dict(export_stream(MemorySource(state), config).tensors)


def import_ar_state(
    foreign: Mapping[str, torch.Tensor], config: ARConfig
) -> dict[str, torch.Tensor]:
    """Run :func:`import_stream` on a state dict in memory, for ``ARNetwork.load_state_dict``."""
    return dict(import_stream(MemorySource(foreign), config).tensors)


def _table(config: ARConfig) -> dict[str, _Fused]:
    """Return our names, each with the original names of its parts."""
    names = {"embedding.weight": _Fused(("tok_embeddings.weight",))}
    for number in range(config.num_layers):
        for ours, fused in _layer(config, f"layers.{number}.").items():
            names[f"blocks.layers.{number}.{ours}.weight"] = fused
    names["norm.weight"] = _Fused(("norm.weight",))
    names["output.weight"] = _Fused(("output.weight",))
    return names


def _layer(config: ARConfig, layer: str) -> dict[str, _Fused]:
    def attention(name: str, *parts: str) -> tuple[str, ...]:
        return tuple(f"{layer}{name}.{part}.weight" for part in parts)

    groups, head = config.num_query_groups or 1, config.head_dim
    queries = config.num_attention_heads // groups * head
    names = {
        "self_attention_norm": _Fused((f"{layer}attention_norm.weight",)),
        "self_attention.linear_qkv": _Fused(
            attention("attention", "wq", "wk", "wv"), groups, (queries, head, head)
        ),
        "self_attention.linear_proj": _Fused(attention("attention", "wo")),
        "self_attention.q_layernorm": _Fused(attention("attention", "q_norm")),
        "self_attention.k_layernorm": _Fused(attention("attention", "k_norm")),
        "mlp_norm": _Fused((f"{layer}ffn_norm.weight",)),
        "mlp.linear_fc1": _Fused(
            attention("feed_forward", "w1", "w3"), config.ffn_hidden_size or 1, (1, 1)
        ),
        "mlp.linear_fc2": _Fused(attention("feed_forward", "w2")),
    }
    if config.context_channels:
        names |= {
            "cross_attention_norm": _Fused((f"{layer}cross_attention_norm.weight",)),
            "cross_attention.linear_q": _Fused(attention("cross_attention", "wq")),
            "cross_attention.linear_kv": _Fused(
                attention("cross_attention", "wk", "wv"), groups, (head, head)
            ),
            "cross_attention.linear_proj": _Fused(attention("cross_attention", "wo")),
            "cross_attention.q_layernorm": _Fused(attention("cross_attention", "q_norm")),
            "cross_attention.k_layernorm": _Fused(attention("cross_attention", "k_norm")),
        }
    return names


def _advice(source: TensorSource) -> str:
    """What to do about weights that do not fit: the last ranks' parts may be missing."""
    num_parts: int | None = getattr(source, "num_parts", None)
    if num_parts is None:
        return _ADVICE
    found = "is the part of 1 rank" if num_parts == 1 else f"are the parts of {num_parts} ranks"
    return _OF_RANKS.format(found) + _ADVICE
