"""``nemo-cosmos dataset codes``: what a diffusion decoder learns from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli.kit.options import AsJson

Latents = Annotated[Path, typer.Argument(help="Latents of a continuous tokenizer.")]
Codes = Annotated[Path, typer.Argument(help="Codes of a discrete one, of the same windows.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="The new folder.")]


def codes(latents: Latents, codes: Codes, out: Out, as_json: AsJson = False) -> None:
    """Put the codes of the same windows beside latents, for training a diffusion decoder.

    Tokenize the clips twice, with a continuous and with a discrete tokenizer of the same temporal
    factor, with the same --window-frames, --window-stride and --size.

    Examples:
        nemo-cosmos dataset codes latents codes --out decoder_data
        nemo-cosmos finetune --factory diffusion_nano_decoder --from world data.path=decoder_data
    """
    from post_training.decoder.data import add_codes

    count = add_codes(latents, codes, out)
    record = {"samples": count, "out": str(out)}
    typer.echo(json.dumps(record) if as_json else f"{count} samples with codes are in '{out}'.")
