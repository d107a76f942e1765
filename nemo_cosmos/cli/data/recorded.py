"""``nemo-cosmos dataset shard``: recordings into shards as they are."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli.kit.options import AsJson
from nemo_cosmos.errors import counted
from nemo_cosmos.progress import show_progress


def shard(
    folder: Annotated[Path, typer.Argument(help="Folder of recordings: KEY.mp4, KEY.json, ...")],
    out: Annotated[Path, typer.Argument(help="New folder for the shards.")],
    split: Annotated[
        str | None, typer.Option(help="Only those whose JSON names this split: train or val.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write recordings into shards as they are, the videos of all cameras together.

    Curation cuts and filters one video at a time. Recordings of several cameras, and others that
    need neither, become shards here: each KEY.json with its videos (KEY.mp4, KEY.VIEW.mp4), layout
    videos and signals. Views of other lengths, sizes or rates are refused, and nothing is written.

    Examples:
        nemo-cosmos dataset shard data/drives shards/drives --split train
        nemo-cosmos tokenize shards/drives latents/drives --tokenizer tok --size 64x96
    """
    from nemo_cosmos.data.shards.recorded import shard_recordings

    with show_progress("Sharding", "recordings", "json" if as_json else "people") as update:
        report = shard_recordings(folder, out, split, update)
    if as_json:
        typer.echo(json.dumps(asdict(report)))
        return
    for views, count in report.views.items():
        typer.echo(f"{counted(count, 'recording')} with the views {views}.")
    typer.echo(
        f"Next: nemo-cosmos tokenize {shlex.quote(report.folder)} LATENTS --tokenizer FOLDER"
    )
