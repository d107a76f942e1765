"""``nemo-cosmos curate``: raw video in, training shards and a report out."""

from __future__ import annotations

import json
from dataclasses import asdict
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from data_curation.settings import OPTIONAL_STAGES, CurateSettings
from nemo_cosmos.cli import curate_options as of
from nemo_cosmos.cli.dataset_commands import open_site_catalogue
from nemo_cosmos.cli.settings_options import settings_from, with_settings
from nemo_cosmos.storage import is_url

if TYPE_CHECKING:
    from data_curation import CurateSummary
    from data_curation.catalogue import Catalogue
    from data_curation.progress import Show


@with_settings(CurateSettings)
def command(
    source: of.Source,
    output: of.Output,
    skip: of.Skip = "",
    decoder: of.Decoder = "auto",
    shard_mb: of.ShardMegabytes = 500.0,
    name: of.Name = None,
    catalogue: of.CatalogueLocation = None,
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
    """Turn raw video into training shards.

    Probes, cuts by shot, transcodes to H.264, rejects still clips and burnt-in text, captions,
    embeds, removes duplicates (equal, re-encoded or alike), and writes WebDataset shards in
    cosmos-curate's layout with report.html, summary.json and rejected.jsonl. Nothing is dropped
    without a recorded reason. Run the same command again to resume, or to add new videos. What was
    made becomes the next version of a data set: see nemo-cosmos dataset.

    "name.json" (caption or language), "name.action.npy" and other arrays beside "name.mp4" are
    carried along and cut with it. A fixed camera on a small robot moves little: lower --min-motion
    and --min-patch-motion for it, and keep clips that look alike with --min-cosine 1.

    Examples:
      nemo-cosmos curate raw/ outputs/curated

      nemo-cosmos curate robot/ outputs/robot --split none --min-clip-s 0.5 --min-motion 0
      --min-patch-motion 0

      nemo-cosmos curate raw/ outputs/curated --vlm-url http://localhost:8000/v1
      --vlm-model Qwen/Qwen2.5-VL-7B-Instruct

      nemo-cosmos curate /shared/raw /shared/curated --executor ray --address auto

      nemo-cosmos curate s3://videos/raw s3://videos/curated --work /scratch/curated

      nemo-cosmos curate 'raw/**/*.mp4' outputs/curated --split stride --stride-s 5 --short-side 720
    """
    from data_curation.executors import build_executor
    from data_curation.pipeline import curate
    from data_curation.run_folder import run_folder_of

    settings = settings_from(
        CurateSettings,
        options,
        skip=OPTIONAL_STAGES if skip == "all" else _names(skip),
        decoder=decoder,
        max_shard_bytes=round(shard_mb * 1024 * 1024),
    )
    chosen = build_executor(executor, workers, worker_memory_gb, address, min_workers)
    folder = run_folder_of(output, work)
    # Opened before the work, so that a catalogue that cannot be had costs no hours.
    with open_site_catalogue(catalogue) as opened:
        show: Show = "json" if as_json else "people"
        summary = curate(source, output, settings, chosen, show, retry_dead, work)
        chosen_name = name or Path(output).absolute().name
        version = _add_version(opened, summary, source, folder, chosen_name)
    if as_json:
        content = {**asdict(summary), "output": output, "version": version}
        typer.echo(json.dumps(content))
    else:
        _print_summary(summary, folder, version)
        if output != str(folder):
            typer.echo(f"Put into {output}")


def _add_version(
    catalogue: Catalogue, summary: CurateSummary, source: str, folder: Path, name: str
) -> str:
    """Remember what was made; empty where nothing was."""
    if not summary.num_clips:
        catalogue.add_sources(folder, folder_of(source))
        return ""
    added = catalogue.add(folder, name, folder_of(source))
    return f"{added['name']}@{added['version']}"


def folder_of(source: str) -> str:
    """The folder that the names of an input's videos are below; empty for patterns and lists."""
    if is_url(source):
        return "" if Path(source).suffix or has_magic(source) else source
    return source if Path(source).is_dir() else ""


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _print_summary(summary: CurateSummary, output: Path, version: str) -> None:
    """What was kept and what not, in a few lines."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"[bold]{summary.num_clips} clips[/bold] ({summary.clips_s:.1f} s) from "
        f"{summary.num_sources} videos ({summary.sources_s:.1f} s); "
        f"{summary.num_reused} videos were done before."
    )
    if summary.left_out_s:
        console.print(f"  left out at changes of shot: {summary.left_out_s:.1f} s")
    for reason, count in summary.rejected.items():
        console.print(f"  rejected: {count} {reason}")
    if summary.num_dead:
        console.print(
            f"  {summary.num_dead} were given up after three tries (dead_letter.jsonl): add "
            "--retry-dead to the same command to try them again."
        )
    if not summary.num_clips:
        console.print("[bold]Every clip was rejected[/bold]; the report says why, one by one.")
    console.print(f"Report: {output / 'report.html'}", markup=False)
    if version:
        console.print(f"Version: {version} (nemo-cosmos dataset show {version})", markup=False)
