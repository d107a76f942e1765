"""``nemo-cosmos heads``: train heads with which an autoregressive world guesses ahead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli.kit.checking import CheckOnly, look_first
from nemo_cosmos.cli.kit.options import AsJson, number
from nemo_cosmos.models.autoregressive.options import MOST_HEADS, USUAL_HEADS
from nemo_cosmos.progress import show_progress


def command(
    world: Annotated[Path, typer.Argument(help="An autoregressive world, or its run's folder.")],
    codes: Annotated[Path, typer.Argument(help="Clips of its training, as tokenize made them.")],
    out: Annotated[
        Path | None, typer.Option(help="Write another world here, heads included.")
    ] = None,
    heads: Annotated[
        int, number("Codes ahead that are guessed.", least=1, most=MOST_HEADS)
    ] = USUAL_HEADS,
    steps: Annotated[int, number("Steps of the training.", least=1)] = 1000,
    batch_size: Annotated[int, number("Videos in a step.", least=1)] = 4,
    lr: Annotated[float, number("Highest learning rate.", above=0, most=1)] = 1e-3,
    layers: Annotated[
        int, number("Last layers of the world that learn, too; needs --out.", least=0)
    ] = 0,
    measured: Annotated[int, number("Videos that guesses are measured on.", least=1)] = 4,
    seed: Annotated[int, number("Seed of the order of clips and of draws.", least=0)] = 0,
    check: CheckOnly = False,
    as_json: AsJson = False,
) -> None:
    """Train heads with which an autoregressive world guesses several codes ahead (Medusa).

    The world stays as it is; heads.safetensors is put beside its weights, with how often the
    guesses were right in videos that the world drew itself. "predict --decoding medusa" then draws
    the same video in fewer passes. With --layers the world's last layers and its output learn, too,
    which makes another world: --out names its folder.

    Examples:
        nemo-cosmos heads outputs/ar_nano/export codes
        nemo-cosmos heads outputs/ar_nano/export codes --heads 5 --steps 300
        nemo-cosmos heads outputs/ar_nano/export codes --layers 2 --out worlds/ar_nano_medusa
    """
    from nemo_cosmos.models.autoregressive.heads.training import HeadsTraining
    from post_training.heads import HeadsJob, give_heads, heads_checks

    training = HeadsTraining(heads, steps, lr, layers)
    job = HeadsJob(training, batch_size, measured, seed)
    look_first(heads_checks(world, codes, job, out), check, as_json)
    with show_progress("Training heads", "steps", "json" if as_json else "people") as update:
        record = give_heads(world, codes, job, out=out, progress=update)
    if as_json:
        typer.echo(json.dumps(record))
        return
    first, last = record["loss_first"], record["loss_last"]
    typer.echo(f"Wrote {record['file']}: loss {first:.3f}, then {last:.3f}.")
    rates = ", ".join(f"{100 * rate:.0f} %" for rate in record["acceptance"])
    typer.echo(f"Codes that were among the guesses, by head: {rates}.")
