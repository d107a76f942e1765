"""``nemo-cosmos import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    source: Annotated[Path, typer.Argument(help="A checkpoint of another format.")],
    target: Annotated[Path, typer.Argument(help="The new world or tokenizer folder.")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="The preset that it is of, where the files do not say."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="Of the world model, where the source has none."),
    ] = None,
    average: Annotated[
        bool,
        typer.Option("--average/--no-average", help="Take the EMA weights of a NeMo checkpoint."),
    ] = True,
) -> None:
    """Turn a checkpoint of another format into a world folder, or a tokenizer folder.

    Sources: a diffusers folder; an original Cosmos model.pt; a tokenizer's model.pt or .jit files
    with mean_std.pt; a NeMo distributed checkpoint, such as <run>/checkpoints/step=001000. The
    format is found out. Tensors are converted one by one, in little memory; nothing that could run
    code is loaded, and nothing is overwritten.

    [bold]Examples[/bold]

      nemo-cosmos import Cosmos-1.0-Diffusion-7B-Text2World-Diffusers worlds/7b

      nemo-cosmos import Cosmos-1.0-Diffusion-14B-Video2World/model.pt worlds/14b --tokenizer Cosmos-1.0-Tokenizer-CV8x8x8

      nemo-cosmos import outputs/my_run/checkpoints/step=001000 worlds/step_1000

      nemo-cosmos import Cosmos-0.1-Tokenizer-CV4x8x8 tokenizers/cv4x8x8
    """  # noqa: E501 - a command stands on one line
    from nemo_cosmos.cli.bytes_bar import bytes_bar
    from nemo_cosmos.platform.quiet import quiet_libraries

    quiet_libraries()
    from nemo_cosmos.checkpoint.convert import import_checkpoint

    with bytes_bar(f"Importing {source.name}") as progress:
        import_checkpoint(
            source,
            target,
            model=model,
            tokenizer=tokenizer,
            use_average=average,
            progress=progress,
        )
    typer.echo(f"Imported '{source}' into '{target}'.")
