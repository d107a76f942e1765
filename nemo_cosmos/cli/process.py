"""``nemo-cosmos process``: whole videos of any kind to H.264 mp4s of one profile."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_curation.settings import CurateSettings
from nemo_cosmos.cli import curate_options as of
from nemo_cosmos.cli.settings_options import settings_from, with_settings

if TYPE_CHECKING:
    from data_curation.progress import Show


@with_settings(CurateSettings, ("probe", "transcode"))
def command(
    source: of.Source,
    output: Annotated[str, typer.Argument(help="Folder for the videos; or a bucket's URL.")],
    decoder: of.Decoder = "auto",
    executor: of.ExecutorName = "processes",
    workers: of.Workers = None,
    min_workers: of.MinWorkers = 1,
    address: of.Address = "local",
    worker_memory_gb: of.WorkerMemory = 0.0,
    retry_dead: of.RetryDead = False,
    work: of.Work = None,
    as_json: of.AsJson = False,
    **options: Any,
) -> None:
    """Probe and transcode alone: whole videos, not cut, not filtered, under their own names.

    What fits the profile already is copied, not encoded again. Broken files are rejected with a
    counted reason (rejected.jsonl, summary.json). Run the same command again to go on.

    Examples:
      nemo-cosmos process raw/ outputs/720p --profile 720p

      nemo-cosmos process s3://videos/raw s3://videos/720p --profile 720p --work /scratch/720p
    """
    from data_curation.executors import build_executor
    from data_curation.process import process
    from data_curation.run_folder import run_folder_of

    settings = settings_from(CurateSettings, options, decoder=decoder)
    chosen = build_executor(executor, workers, worker_memory_gb, address, min_workers)
    show: Show = "json" if as_json else "people"
    summary = process(source, output, settings, chosen, show, retry_dead, work)
    if as_json:
        typer.echo(json.dumps({**asdict(summary), "output": output}))
        return
    typer.echo(
        f"{summary.num_clips} of {summary.num_sources} videos ({summary.clips_s:.1f} s); "
        f"{summary.num_reused} were done before."
    )
    for reason, count in summary.rejected.items():
        typer.echo(f"  rejected: {count} {reason}")
    typer.echo(f"Written to {output}; {Path(run_folder_of(output, work)) / 'rejected.jsonl'}")
