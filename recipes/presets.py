"""Every preset with its size."""

from __future__ import annotations

from typing import Any

from nemo_cosmos.errors import ConfigError


def list_presets(family: str | None = None) -> list[dict[str, Any]]:
    """Every preset as ``{"name", "family", "parameters", ...}``, counted on the meta device.

    Args:
        family: ``"diffusion"`` or ``"tokenizer"``; all where None.

    Raises:
        ConfigError: there is no such family.
    """
    rows = {"diffusion": _diffusion_rows, "tokenizer": _tokenizer_rows}
    if family is None:
        return [row for list_rows in rows.values() for row in list_rows()]
    if family not in rows:
        raise ConfigError(
            f"There is no family '{family}'. Valid are {' and '.join(map(repr, rows))}; without "
            "one all are listed."
        )
    return rows[family]()


def _diffusion_rows() -> list[dict[str, Any]]:
    from nemo_cosmos.models.diffusion.presets import DIFFUSION, count_parameters

    return [
        {
            "name": name,
            "family": "diffusion",
            "parameters": count_parameters(preset),
            "task": preset.task,
            "layers": preset.network["num_layers"],
            "width": preset.network["hidden_size"],
            "heads": preset.network["num_attention_heads"],
            "tokenizer": preset.tokenizer,
        }
        for name, preset in DIFFUSION.items()
    ]


def _tokenizer_rows() -> list[dict[str, Any]]:
    import torch

    from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
    from nemo_cosmos.models.tokenizer.presets import TOKENIZERS

    rows = []
    for name, config in TOKENIZERS.items():
        with torch.device("meta"):
            network = TokenizerNetwork(config)
        rows.append(
            {
                "name": name,
                "family": "tokenizer",
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
                "task": f"{'discrete' if config.discrete else 'continuous'} {config.kind}",
                "temporal_factor": config.temporal_factor,
                "spatial_factor": config.spatial_factor,
            }
        )
    return rows
