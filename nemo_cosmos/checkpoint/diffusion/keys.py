"""Names of the diffusion network's weights: ours, diffusers' and the original Cosmos'.

Our self-attention holds queries, keys and values in one matrix, cross-attention keys and values in
one, head by head as Megatron-Core shards them: rows ``[q_0 k_0 v_0 q_1 k_1 v_1 ...]`` of one head
after the other. The other two keep one matrix each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import torch

from nemo_cosmos.checkpoint.formats.tensors import (
    MemorySource,
    Shapes,
    TensorSource,
    TensorSpec,
    TensorStream,
    check_fit,
)
from nemo_cosmos.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from nemo_cosmos.models.diffusion.network.config import DiTConfig

Naming = Literal["diffusers", "cosmos"]

# ours -> (diffusers, original Cosmos without its prefix "net."); several names are fused in ours.
_NETWORK: dict[str, tuple[str, str]] = {
    "patch_embed.proj.weight": ("patch_embed.proj.weight", "x_embedder.proj.1.weight"),
    "timestep_embed.linear_1.weight": (
        "time_embed.t_embedder.linear_1.weight",
        "t_embedder.1.linear_1.weight",
    ),
    "timestep_embed.linear_2.weight": (
        "time_embed.t_embedder.linear_2.weight",
        "t_embedder.1.linear_2.weight",
    ),
    "timestep_embed.norm.weight": ("time_embed.norm.weight", "affline_norm.weight"),
    "final_layer.adaln.linear_1.weight": (
        "norm_out.linear_1.weight",
        "final_layer.adaLN_modulation.1.weight",
    ),
    "final_layer.adaln.linear_2.weight": (
        "norm_out.linear_2.weight",
        "final_layer.adaLN_modulation.2.weight",
    ),
    "final_layer.linear.weight": ("proj_out.weight", "final_layer.linear.weight"),
}
_POSITION = {
    f"position_embed.pos_emb_{axis}": (
        f"learnable_pos_embed.pos_emb_{axis}",
        f"extra_pos_embedder.pos_emb_{axis}",
    )
    for axis in "thw"
}
# The learned variance of the loss, which only original checkpoints carry.
_LOGVAR = {
    "logvar.freqs": "logvar.0.freqs",
    "logvar.phases": "logvar.0.phases",
    "logvar.weight": "logvar.1.weight",
}
_ONE_ROW = "logvar.weight"  # a vector in ours, a matrix of one row in theirs
_COSMOS_PREFIX = "net."
_IGNORED_PREFIXES = ("pos_embedder.", "logvar.")  # position counters, and a variance not asked for


def export_stream(
    source: TensorSource, config: DiTConfig, naming: Naming, learned_variance: bool = False
) -> TensorStream:
    """Rename and split our weights for another library, one at a time.

    Args:
        source: the weights of a whole :class:`~nemo_cosmos.models.diffusion.network.dit.DiT`.
        config: the network's configuration.
        naming: ``"diffusers"`` (``CosmosTransformer3DModel``) or ``"cosmos"`` (names start with
            ``net.``).
        learned_variance: whether to write ``logvar``, too; ``"cosmos"`` only.

    Raises:
        CheckpointError: a weight is missing.
    """
    names = _names(config, naming, learned_variance)
    missing = [name for name in names if name not in source.specs]
    if missing:
        raise CheckpointError(
            f"The diffusion network's state lacks the weight '{missing[0]}'. Pass the state of a "
            "whole network (one pipeline stage, unsharded) of the same configuration."
        )
    specs = {}
    for ours, theirs in names.items():
        spec = source.specs[ours]
        shape = _foreign_shape(ours, spec.shape, len(theirs))
        specs.update(dict.fromkeys(theirs, TensorSpec(shape, spec.dtype)))

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for ours, theirs in names.items():
            parts = split_rows(source.read(ours), len(theirs), config.num_attention_heads)
            for name, part in zip(theirs, parts, strict=True):
                yield name, part.reshape(specs[name].shape)

    return TensorStream(specs, tensors())


def import_stream(
    source: TensorSource, config: DiTConfig, naming: Naming, expected: Shapes | None = None
) -> TensorStream:
    """Rename and fuse another library's weights into ours, one at a time.

    Args:
        source: the weights; for ``"cosmos"`` with or without the prefix ``net.``.
        config: the configuration of the network that will take them.
        naming: ``"diffusers"`` or ``"cosmos"``.
        expected: our names and shapes; with ``logvar.*`` among them the learned variance is read.
            Without it only names are compared, and ``logvar.*`` is left out.

    Returns:
        The weights of a ``DiT``.

    Raises:
        CheckpointError: the checkpoint is of another model; names what is missing, unknown or of
            another shape.
    """
    names = _names(config, naming, expected is not None and _ONE_ROW in expected)
    given = {_with_prefix(name, naming): name for name in source.specs}
    wanted = {
        _with_prefix(name, naming): _foreign_shape(
            ours, (expected or {}).get(ours, ()), len(theirs)
        )
        for ours, theirs in names.items()
        for name in theirs
    }
    found = {
        name: source.specs[own].shape if expected else ()
        for name, own in given.items()
        if name in wanted or not _is_ignored(name, naming)
    }
    advice = "Choose the preset that it was trained with by --model, or another checkpoint."
    check_fit(wanted, found, source.place, f"this network under {naming} names", advice)
    own_names = {
        ours: [given[_with_prefix(name, naming)] for name in theirs]
        for ours, theirs in names.items()
    }
    specs = {}
    for ours, parts in own_names.items():
        spec = source.specs[parts[0]]
        shape = (spec.shape[0] * len(parts), *spec.shape[1:])
        specs[ours] = TensorSpec(shape[1:] if ours == _ONE_ROW else shape, spec.dtype)

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for ours, parts in own_names.items():
            fused = _fuse([source.read(name) for name in parts], config.num_attention_heads)
            yield ours, fused.reshape(specs[ours].shape)

    return TensorStream(specs, tensors())


def export_diffusion_state(
    state: Mapping[str, object], config: DiTConfig, naming: Naming
) -> dict[str, torch.Tensor]:
    """Run :func:`export_stream` on a state dict in memory."""
    return dict(export_stream(MemorySource(state), config, naming).tensors)


def import_diffusion_state(
    foreign: Mapping[str, torch.Tensor], config: DiTConfig, naming: Naming
) -> dict[str, torch.Tensor]:
    """Run :func:`import_stream` on a state dict in memory, for ``DiT.load_state_dict``."""
    return dict(import_stream(MemorySource(foreign), config, naming).tensors)


def diffusers_names(config: DiTConfig) -> dict[str, tuple[str, ...]]:
    """Our names of a network's weights, each with diffusers' names of its parts."""
    return _names(config, "diffusers", learned_variance=False)


def has_learned_variance(names: Iterable[str]) -> bool:
    """Whether a checkpoint of original names carries the learned variance."""
    present = {name.removeprefix(_COSMOS_PREFIX) for name in names}
    return present.issuperset(_LOGVAR.values())


def _with_prefix(name: str, naming: Naming) -> str:
    """Return the name of an original weight with its prefix, whether the file has it or not."""
    if naming != "cosmos" or name.startswith((_COSMOS_PREFIX, "logvar.")):
        return name
    return _COSMOS_PREFIX + name


def _is_ignored(name: str, naming: Naming) -> bool:
    return naming == "cosmos" and name.removeprefix(_COSMOS_PREFIX).startswith(_IGNORED_PREFIXES)


def _foreign_shape(ours: str, shape: tuple[int, ...], num_parts: int) -> tuple[int, ...]:
    """Return the shape of each part that one of our weights is split into."""
    if not shape:
        return ()
    if ours == _ONE_ROW:
        return (1, *shape)
    return (shape[0] // num_parts, *shape[1:])


def _names(config: DiTConfig, naming: Naming, learned_variance: bool) -> dict[str, tuple[str, ...]]:
    """Return our names, each with the other library's names of its parts."""
    if naming not in ("diffusers", "cosmos"):
        raise ConfigError(f"The naming '{naming}' is unknown. Use 'diffusers' or 'cosmos'.")
    column = 0 if naming == "diffusers" else 1
    prefix = _COSMOS_PREFIX if naming == "cosmos" else ""
    table = {**_NETWORK, **(_POSITION if config.extra_pos_emb else {})}
    names: dict[str, tuple[str, ...]] = {
        ours: (prefix + theirs[column],) for ours, theirs in table.items()
    }
    for index in range(config.num_layers):
        layer = _diffusers_layer(index) if naming == "diffusers" else _cosmos_layer(index)
        for ours, parts in layer.items():
            names[f"blocks.layers.{index}.{ours}"] = parts
    if learned_variance and naming == "cosmos":
        names.update({ours: (theirs,) for ours, theirs in _LOGVAR.items()})
    return names


def _diffusers_layer(index: int) -> dict[str, tuple[str, ...]]:
    layer = f"transformer_blocks.{index}."
    names: dict[str, tuple[str, ...]] = {
        "mlp.linear_fc1.weight": (f"{layer}ff.net.0.proj.weight",),
        "mlp.linear_fc2.weight": (f"{layer}ff.net.2.weight",),
    }
    for number, ours in enumerate(("self_attention", "cross_attention", "mlp"), start=1):
        for linear in ("linear_1", "linear_2"):
            names[f"adaln_{ours}.{linear}.weight"] = (f"{layer}norm{number}.{linear}.weight",)
    for number, ours in enumerate(("self_attention", "cross_attention"), start=1):
        attn = f"{layer}attn{number}."
        names[f"{ours}.linear_proj.weight"] = (f"{attn}to_out.0.weight",)
        names[f"{ours}.q_layernorm.weight"] = (f"{attn}norm_q.weight",)
        names[f"{ours}.k_layernorm.weight"] = (f"{attn}norm_k.weight",)
        q, k, v = (f"{attn}to_{part}.weight" for part in "qkv")
        names.update(_projections(ours, q, k, v))
    return names


def _cosmos_layer(index: int) -> dict[str, tuple[str, ...]]:
    layer = f"net.blocks.block{index}.blocks."
    names: dict[str, tuple[str, ...]] = {
        "mlp.linear_fc1.weight": (f"{layer}2.block.layer1.weight",),
        "mlp.linear_fc2.weight": (f"{layer}2.block.layer2.weight",),
    }
    for number, ours in enumerate(("self_attention", "cross_attention", "mlp")):
        for linear in (1, 2):
            names[f"adaln_{ours}.linear_{linear}.weight"] = (
                f"{layer}{number}.adaLN_modulation.{linear}.weight",
            )
    for number, ours in enumerate(("self_attention", "cross_attention")):
        attn = f"{layer}{number}.block.attn."
        names[f"{ours}.linear_proj.weight"] = (f"{attn}to_out.0.weight",)
        names[f"{ours}.q_layernorm.weight"] = (f"{attn}to_q.1.weight",)
        names[f"{ours}.k_layernorm.weight"] = (f"{attn}to_k.1.weight",)
        q, k, v = (f"{attn}to_{part}.0.weight" for part in "qkv")
        names.update(_projections(ours, q, k, v))
    return names


def _projections(attention: str, q: str, k: str, v: str) -> dict[str, tuple[str, ...]]:
    if attention == "self_attention":
        return {"self_attention.linear_qkv.weight": (q, k, v)}
    return {"cross_attention.linear_q.weight": (q,), "cross_attention.linear_kv.weight": (k, v)}


def _fuse(parts: list[torch.Tensor], num_heads: int) -> torch.Tensor:
    if len(parts) == 1:
        return parts[0]
    return torch.cat([part.unflatten(0, (num_heads, -1)) for part in parts], dim=1).flatten(0, 1)


def split_rows(tensor: torch.Tensor, num_parts: int, num_heads: int) -> tuple[torch.Tensor, ...]:
    """Split the rows of a fused projection, head by head, into those of its parts."""
    if num_parts == 1:
        return (tensor,)
    heads = tensor.unflatten(0, (num_heads, -1))
    return tuple(part.flatten(0, 1) for part in heads.chunk(num_parts, dim=1))
