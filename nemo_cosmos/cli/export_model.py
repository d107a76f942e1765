"""``nemo-cosmos export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    source: Annotated[Path, typer.Argument(help="A world folder or a tokenizer folder.")],
    target: Annotated[Path, typer.Argument(help="The new folder.")],
    format: Annotated[str, typer.Option("--format", help="diffusers, cosmos or nemo.")],
) -> None:
    """Turn a world folder, such as <run>/export, into another format.

    diffusers: what CosmosTextToWorldPipeline or CosmosVideoToWorldPipeline loads (give it a T5
    text encoder and a safety checker). cosmos: model.pt under the original names. nemo: a
    distributed checkpoint that NeMo loads into any parallel layout. 'nemo-cosmos import' brings
    each of them back with identical weights.

    [bold]Examples[/bold]

      nemo-cosmos export outputs/my_run/export my_world_hf --format diffusers

      nemo-cosmos export worlds/14b nemo_14b --format nemo
    """
    from nemo_cosmos.cli.bytes_bar import bytes_bar
    from nemo_cosmos.platform.quiet import quiet_libraries

    quiet_libraries()
    from nemo_cosmos.checkpoint.convert import export_checkpoint

    with bytes_bar(f"Exporting {source.name}") as progress:
        export_checkpoint(source, target, format, progress=progress)
    typer.echo(f"Exported '{source}' into '{target}' ({format}).")
