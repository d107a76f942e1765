"""Every preset with its size."""

from __future__ import annotations

from nemo_cosmos.errors import ConfigError

TOKENIZER = "tokenizer"


def list_presets(family: str | None = None) -> list[dict[str, object]]:
    """Every preset as ``{"name", "family", "parameters", ...}``, counted on the meta device.

    Args:
        family: a family of world models, such as ``"diffusion"``, or ``"tokenizer"``; all where
            None.

    Raises:
        ConfigError: there is no such family.
    """
    from nemo_cosmos.models.common.family import available_families

    known = (*available_families(), TOKENIZER)
    if family is not None and family not in known:
        raise ConfigError(
            f"There is no family '{family}'. Valid are {' and '.join(map(repr, known))}; without "
            "one all are listed."
        )
    chosen = known if family is None else (family,)
    return [
        row
        for name in chosen
        for row in (_tokenizer_rows() if name == TOKENIZER else _world_rows(name))
    ]


def _world_rows(family: str) -> list[dict[str, object]]:
    from nemo_cosmos.models.common.family import get_family

    known = get_family(family)
    return [
        {
            "name": name,
            "family": family,
            "parameters": known.count_parameters(name),
            "task": preset.task,
            **preset.sizes,
            "tokenizer": preset.tokenizer,
        }
        for name, preset in known.presets.items()
    ]


def _tokenizer_rows() -> list[dict[str, object]]:
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
