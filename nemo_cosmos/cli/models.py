"""``nemo-cosmos models``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from nemo_cosmos.cli.options import AsJson


def command(
    as_json: AsJson = False,
    family: Annotated[
        str | None, typer.Option("--family", help="Only 'diffusion' or 'tokenizer'.")
    ] = None,
) -> None:
    """List every preset with its number of parameters, counted on the meta device.

    Examples:
        nemo-cosmos models
        nemo-cosmos models --json --family diffusion
    """
    from nemo_cosmos.errors import ConfigError

    if family not in (None, "diffusion", "tokenizer"):
        raise ConfigError(
            f"There is no family '{family}'. Valid are 'diffusion' and 'tokenizer'; without "
            "--family both are listed."
        )
    rows = list_models(family)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    _print_table(rows)


def list_models(family: str | None = None) -> list[dict[str, Any]]:
    """Every preset as ``{"name", "family", "parameters", ...}``.

    Args:
        family: ``"diffusion"`` or ``"tokenizer"``; both where None.
    """
    from nemo_cosmos.platform.quiet import quiet_libraries

    quiet_libraries()
    rows = _diffusion_rows() if family in (None, "diffusion") else []
    return rows + (_tokenizer_rows() if family in (None, "tokenizer") else [])


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

    from nemo_cosmos.models.tokenizer.network import TokenizerNetwork
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


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "family", "task", "parameters")
    table.columns[3].justify = "right"
    for row in rows:
        table.add_row(row["name"], row["family"], row["task"], f"{row['parameters']:,}")
    Console().print(table)
