"""Names of the diffusion network's weights: ours, diffusers' and the original Cosmos'.

Our self-attention holds queries, keys and values in one matrix, cross-attention keys and values in
one, head by head as Megatron-Core shards them: rows ``[q_0 k_0 v_0 q_1 k_1 v_1 ...]`` of one head
after the other. The other two keep one matrix each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch

from nemo_cosmos.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from nemo_cosmos.models.diffusion.config import DiTConfig

Layout = Literal["diffusers", "cosmos"]

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
# What original checkpoints carry beyond the network: the training process's variance head and
# position counters.
_IGNORED_PREFIXES = ("logvar.", "pos_embedder.")


def export_diffusion_state(
    state: Mapping[str, object], config: DiTConfig, layout: Layout
) -> dict[str, torch.Tensor]:
    """Rename and split our weights into another layout.

    Args:
        state: the state dict of a whole :class:`~nemo_cosmos.models.diffusion.dit.DiT`.
        config: its configuration.
        layout: ``"diffusers"`` (``CosmosTransformer3DModel``) or ``"cosmos"`` (names start with
            ``net.``).

    Raises:
        CheckpointError: a weight is missing.
    """
    exported: dict[str, torch.Tensor] = {}
    for ours, theirs in _names(config, layout).items():
        tensor = state.get(ours)
        if not isinstance(tensor, torch.Tensor):
            raise CheckpointError(
                f"The diffusion network's state lacks the weight '{ours}'. Pass the state dict of "
                "a whole network (one pipeline stage, unsharded) of the same configuration."
            )
        parts = _unfuse(tensor, len(theirs), config.num_attention_heads)
        exported.update(zip(theirs, parts, strict=True))
    return exported


def import_diffusion_state(
    foreign: Mapping[str, torch.Tensor], config: DiTConfig, layout: Layout
) -> dict[str, torch.Tensor]:
    """Rename and fuse the weights of another layout into ours.

    Args:
        foreign: weights by name; for ``"cosmos"`` with or without the prefix ``net.``.
        config: configuration of the network that will take them.
        layout: ``"diffusers"`` or ``"cosmos"``.

    Returns:
        A state dict for ``DiT.load_state_dict``.

    Raises:
        CheckpointError: a weight is missing, or one is left over: the checkpoint is of another
            model.
    """
    prefix = "net." if layout == "cosmos" else ""
    remaining = {
        name if name.startswith(prefix) else prefix + name: tensor
        for name, tensor in foreign.items()
    }
    state = {}
    for ours, theirs in _names(config, layout).items():
        missing = [name for name in theirs if name not in remaining]
        if missing:
            raise CheckpointError(
                f"The {layout} checkpoint lacks the weight '{missing[0]}'. It is incomplete, or of "
                "another model; choose the preset it was trained with."
            )
        parts = [remaining.pop(name) for name in theirs]
        state[ours] = _fuse(parts, config.num_attention_heads)
    ignored = tuple(prefix + name for name in _IGNORED_PREFIXES)
    unknown = [name for name in remaining if not name.startswith(ignored)]
    if unknown:
        raise CheckpointError(
            f"The {layout} checkpoint has {len(unknown)} weights that this network has no place "
            f"for, the first of them '{unknown[0]}'. It is of another model; choose the preset it "
            "was trained with."
        )
    return state


def _names(config: DiTConfig, layout: Layout) -> dict[str, tuple[str, ...]]:
    """Our names, each with the names of its parts in the other layout."""
    if layout not in ("diffusers", "cosmos"):
        raise ConfigError(f"The layout '{layout}' is unknown. Use 'diffusers' or 'cosmos'.")
    column = 0 if layout == "diffusers" else 1
    prefix = "net." if layout == "cosmos" else ""
    table = {**_NETWORK, **(_POSITION if config.extra_pos_emb else {})}
    names: dict[str, tuple[str, ...]] = {
        ours: (prefix + theirs[column],) for ours, theirs in table.items()
    }
    for index in range(config.num_layers):
        layer = _diffusers_layer(index) if layout == "diffusers" else _cosmos_layer(index)
        for ours, parts in layer.items():
            names[f"blocks.layers.{index}.{ours}"] = parts
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


def _unfuse(tensor: torch.Tensor, num_parts: int, num_heads: int) -> tuple[torch.Tensor, ...]:
    if num_parts == 1:
        return (tensor,)
    heads = tensor.unflatten(0, (num_heads, -1))
    return tuple(part.flatten(0, 1) for part in heads.chunk(num_parts, dim=1))
