"""``nemo-cosmos curate`` and ``transcode``: raw video to training shards, or to one profile."""

from __future__ import annotations

import json
from dataclasses import asdict
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_curation.settings import OPTIONAL_STAGES, CurateSettings
from nemo_cosmos.cli.dataset import open_site_catalogue
from nemo_cosmos.cli.options import AsJson, Work, listed, settings_from, with_settings
from nemo_cosmos.storage import is_url

if TYPE_CHECKING:
    from data_curation import CurateSummary
    from data_curation.catalogue import Catalogue
    from data_curation.progress import Show

Source = Annotated[
    str,
    typer.Argument(
        metavar="INPUT", help="Folder, video, 'glob pattern' or .txt list; or a bucket's URL."
    ),
]
Output = Annotated[str, typer.Argument(help="Folder for shards and report; or a bucket's URL.")]
Skip = Annotated[
    list[str] | None,
    typer.Option("--skip", help="Stages to leave out, such as text_overlay, or all. Repeatable."),
]
Decoder = Annotated[
    str, typer.Option(help="Of video: 'pyav', 'torchcodec', 'dali', or 'auto' (DALI on GPUs).")
]
ShardMegabytes = Annotated[float, typer.Option(help="Size of a tar in MB.")]
Name = Annotated[
    str | None, typer.Option(help="Of the data set in the catalogue; else the folder's.")
]
CatalogueLocation = Annotated[
    str | None,
    typer.Option(help="File or mongodb:// URL of the catalogue; the site's by default."),
]
ExecutorName = Annotated[
    str, typer.Option(help="Where to work: 'processes' of this machine, 'ray', or 'inline'.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="How many processes (1), or most Ray actors of a kind (what fits)."),
]
MinWorkers = Annotated[int, typer.Option(help="Least Ray actors of a kind.")]
Address = Annotated[
    str,
    typer.Option(help="Of the Ray cluster: 'local' starts one, 'auto' finds one, HOST:PORT."),
]
WorkerMemory = Annotated[
    float, typer.Option(help="A process that takes more is replaced; 0 sets no limit.")
]
RetryDead = Annotated[bool, typer.Option("--retry-dead", help="Try again what was given up.")]
VideoOutput = Annotated[str, typer.Argument(help="Folder for the videos; or a bucket's URL.")]


@with_settings(CurateSettings)
def curate(
    source: Source,
    output: Output,
    skip: Skip = None,
    decoder: Decoder = "auto",
    shard_mb: ShardMegabytes = 500.0,
    name: Name = None,
    catalogue: CatalogueLocation = None,
    executor: ExecutorName = "processes",
    workers: Workers = None,
    min_workers: MinWorkers = 1,
    address: Address = "local",
    worker_memory_gb: WorkerMemory = 0.0,
    retry_dead: RetryDead = False,
    work: Work = None,
    as_json: AsJson = False,
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
        nemo-cosmos curate robot/ outputs/robot --split none --min-clip-s 0.5 --min-motion 0 --min-patch-motion 0
        nemo-cosmos curate raw/ outputs/curated --vlm-url http://localhost:8000/v1 --vlm-model Qwen/Qwen2.5-VL-7B-Instruct
        nemo-cosmos curate /shared/raw /shared/curated --executor ray --address auto
        nemo-cosmos curate s3://videos/raw s3://videos/curated --work /scratch/curated
        nemo-cosmos curate 'raw/**/*.mp4' outputs/curated --split stride --stride-s 5 --short-side 720
    """  # noqa: E501 - a command stays on one line
    from data_curation.executors import build_executor
    from data_curation.pipeline import curate as run_curation
    from data_curation.run_folder import run_folder_of

    settings = settings_from(
        CurateSettings,
        options,
        skip=OPTIONAL_STAGES if listed(skip) == ("all",) else listed(skip),
        decoder=decoder,
        max_shard_bytes=round(shard_mb * 1024 * 1024),
    )
    chosen = build_executor(executor, workers, worker_memory_gb, address, min_workers)
    folder = run_folder_of(output, work)
    # Opened before the work, so that a catalogue that cannot be had costs no hours.
    with open_site_catalogue(catalogue) as opened:
        show: Show = "json" if as_json else "people"
        summary = run_curation(source, output, settings, chosen, show, retry_dead, work)
        chosen_name = name or Path(output).absolute().name
        version = _add_version(opened, summary, source, folder, chosen_name)
    if as_json:
        content = {**asdict(summary), "output": output, "version": version}
        typer.echo(json.dumps(content))
    else:
        _print_summary(summary, folder, version)
        if output != str(folder):
            typer.echo(f"Put into {output}")


@with_settings(CurateSettings, ("probe", "transcode"))
def transcode(
    source: Source,
    output: VideoOutput,
    decoder: Decoder = "auto",
    executor: ExecutorName = "processes",
    workers: Workers = None,
    min_workers: MinWorkers = 1,
    address: Address = "local",
    worker_memory_gb: WorkerMemory = 0.0,
    retry_dead: RetryDead = False,
    work: Work = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Probe and transcode alone: whole videos, not cut, not filtered, under their own names.

    What fits the profile already is copied, not encoded again. Broken files are rejected with a
    counted reason (rejected.jsonl, summary.json). Run the same command again to go on.

    Examples:
        nemo-cosmos transcode raw/ outputs/720p --profile 720p
        nemo-cosmos transcode s3://videos/raw s3://videos/720p --profile 720p --work /scratch/720p
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
