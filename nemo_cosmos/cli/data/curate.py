"""``nemo-cosmos curate`` and ``transcode``: raw video to training shards, or to one profile."""

from __future__ import annotations

import json
from dataclasses import asdict
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_curation.reporting.hints import hints
from data_curation.settings import CurateSettings, optional_stages
from nemo_cosmos.cli.data.dataset import open_site_catalogue
from nemo_cosmos.cli.kit.checking import CheckOnly, look_first
from nemo_cosmos.cli.kit.launching import launchable
from nemo_cosmos.cli.kit.options import AsJson, Work, listed, number, settings_from, with_settings
from nemo_cosmos.errors import counted
from nemo_cosmos.storage import is_url, work_folder_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from data_curation import CurateSummary
    from data_curation.catalogue import Catalogue
    from data_curation.executors import Executor
    from nemo_cosmos.progress import Show

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
    str, typer.Option(help="Video decoder: 'pyav', 'torchcodec', 'dali', or 'auto' (DALI on GPUs).")
]
ShardMegabytes = Annotated[float, number("Largest tar, in MB.", least=0.001, most=1e6)]
Name = Annotated[
    str | None, typer.Option(help="Name of the data set in the catalogue; by default the folder's.")
]
CatalogueLocation = Annotated[
    str | None,
    typer.Option(help="File or mongodb:// URL of the catalogue; the site's by default."),
]
ExecutorName = Annotated[
    str, typer.Option(help="Where stages run: 'processes' of this machine, 'ray', or 'inline'.")
]
Workers = Annotated[
    int | None,
    number("Processes (1), or the most Ray actors of one kind (what fits).", least=1, most=4096),
]
MinWorkers = Annotated[int, number("The fewest Ray actors of one kind.", least=0, most=4096)]
Address = Annotated[
    str,
    typer.Option(help="Ray cluster: 'local' starts one, 'auto' finds one, or HOST:PORT."),
]
WorkerMemory = Annotated[
    float, number("A process that uses more memory is replaced; 0: no limit.", least=0, most=1e6)
]
RetryDead = Annotated[bool, typer.Option("--retry-dead", help="Retry sources that were given up.")]
VideosOnly = Annotated[
    bool,
    typer.Option(
        "--videos-only", help="Take a robot data set's videos without actions and instructions."
    ),
]
VideoOutput = Annotated[str, typer.Argument(help="Folder for the videos; or a bucket's URL.")]


@launchable(shared=False)
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
    videos_only: VideosOnly = False,
    work: Work = None,
    check: CheckOnly = False,
    as_json: AsJson = False,
    **options: object,
) -> None:
    """Turn raw video into training shards.

    Probes videos, cuts them by shot, transcodes to H.264, rejects still clips and burnt-in text,
    captions, embeds, removes duplicates (equal, re-encoded or alike), and writes WebDataset shards
    in cosmos-curate's layout, with report.html, summary.json and rejected.jsonl. Nothing is dropped
    without a recorded reason. Run the same command again to resume, or to add new videos. The
    result becomes the next version of a data set: see nemo-cosmos dataset.

    "name.json" (caption or language), "name.action.npy" and other arrays beside "name.mp4" are cut
    with the video. Robot data sets of others: nemo-cosmos convert. With a fixed camera little moves: lower --min-motion and --min-patch-motion, and
    keep recordings that look alike with --skip all.

    Examples:
        nemo-cosmos curate raw/ outputs/curated
        nemo-cosmos curate robot/ outputs/robot --split none --min-clip-s 0.5 --min-motion 0 --min-patch-motion 0 --skip all
        nemo-cosmos curate raw/ outputs/curated --vlm-url http://localhost:8000/v1 --vlm-model Qwen/Qwen2.5-VL-7B-Instruct
        nemo-cosmos curate /shared/raw /shared/curated --executor ray --address auto
        nemo-cosmos curate s3://videos/raw s3://videos/curated --work /scratch/curated
        nemo-cosmos curate raw/ shards --on slurm --then 'tokenize shards latents --tokenizer tok'
        nemo-cosmos curate 'raw/**/*.mp4' outputs/curated --split stride --stride-s 5 --short-side 720
    """  # noqa: E501 - a command stays on one line
    from data_curation.checks import curation_checks
    from data_curation.executors import build_executor
    from data_curation.pipeline import curate as run_curation

    def choose() -> tuple[CurateSettings, Executor]:
        settings = settings_from(
            CurateSettings,
            options,
            skip=optional_stages() if "all" in listed(skip) else listed(skip),
            decoder=decoder,
            max_shard_bytes=round(shard_mb * 1024 * 1024),
            videos_only=videos_only,
        )
        return settings, build_executor(executor, workers, worker_memory_gb, address, min_workers)

    look_first(curation_checks(source, output, choose, work), check, as_json)
    settings, chosen = choose()
    folder = work_folder_of(output, work)
    # Opened before the work, so that an unavailable catalogue costs no hours of work.
    with open_site_catalogue(catalogue) as opened:
        show: Show = "json" if as_json else "people"
        summary = run_curation(source, output, settings, chosen, show, retry_dead, work)
        chosen_name = name or Path(output).absolute().name
        version = _add_version(opened, summary, source, folder, chosen_name)
    if as_json:
        found = hints(summary.num_clips, summary.rejected)
        content = {**asdict(summary), "output": output, "version": version, "hints": found}
        typer.echo(json.dumps(content))
    else:
        _print_summary(summary, folder, version)
        if output != str(folder):
            typer.echo(f"Uploaded to {output}")


@launchable(shared=False)
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
    videos_only: VideosOnly = False,
    work: Work = None,
    check: CheckOnly = False,
    as_json: AsJson = False,
    **options: object,
) -> None:
    """Transcode whole videos to one profile, under their own names: no cuts, no filters.

    A video that fits the profile already is copied without re-encoding. Broken files are rejected
    with a counted reason (rejected.jsonl, summary.json). Run the same command again to resume.

    Examples:
        nemo-cosmos transcode raw/ outputs/720p --profile 720p
        nemo-cosmos transcode s3://videos/raw s3://videos/720p --profile 720p --work /scratch/720p
    """
    from data_curation.checks import curation_checks
    from data_curation.executors import build_executor
    from data_curation.transcode import transcode as run_transcoding

    def choose() -> tuple[CurateSettings, Executor]:
        settings = settings_from(CurateSettings, options, decoder=decoder, videos_only=videos_only)
        return settings, build_executor(executor, workers, worker_memory_gb, address, min_workers)

    look_first(curation_checks(source, output, choose, work), check, as_json)
    settings, chosen = choose()
    show: Show = "json" if as_json else "people"
    summary = run_transcoding(source, output, settings, chosen, show, retry_dead, work)
    if as_json:
        typer.echo(json.dumps({**asdict(summary), "output": output}))
        return
    typer.echo(
        f"{summary.num_clips} of {counted(summary.num_sources, 'video')} ({summary.clips_s:.1f} "
        "s); "
        f"{summary.num_reused} were finished earlier."
    )
    for reason, count in summary.rejected.items():
        typer.echo(f"  rejected: {count} {reason} ({summary.rejected_s[reason]:.1f} s)")
    if summary.ignored:
        typer.echo(f"  no videos, ignored: {_by_ending(summary.ignored)}")
    typer.echo(f"Written to {output}; {Path(work_folder_of(output, work)) / 'rejected.jsonl'}")


def _add_version(
    catalogue: Catalogue, summary: CurateSummary, source: str, folder: Path, name: str
) -> str:
    """Add the result to the catalogue and return its version; empty where nothing was kept."""
    if not summary.num_clips:
        catalogue.add_sources(folder, folder_of(source))
        return ""
    added = catalogue.add(folder, name, folder_of(source))
    return f"{added['name']}@{added['version']}"


def folder_of(source: str) -> str:
    """Return the folder that contains the input's videos; empty for patterns and lists."""
    if is_url(source):
        return "" if Path(source).suffix or has_magic(source) else source
    return source if Path(source).is_dir() else ""


def _by_ending(ignored: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {ending}" for ending, count in ignored.items())


def _print_summary(summary: CurateSummary, output: Path, version: str) -> None:
    """Print in a few lines what was kept and what was not."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"[bold]{counted(summary.num_clips, 'clip')}[/bold] ({summary.clips_s:.1f} s) from "
        f"{counted(summary.num_sources, 'video')} ({summary.sources_s:.1f} s); "
        f"{summary.num_reused} of them finished earlier."
    )
    if summary.left_out_s:
        console.print(f"  cut off around changes of shot: {summary.left_out_s:.1f} s")
    for reason, count in summary.rejected.items():
        console.print(f"  rejected: {count} {reason} ({summary.rejected_s[reason]:.1f} s)")
    if summary.ignored:
        console.print(f"  no videos, ignored: {_by_ending(summary.ignored)}", markup=False)
    if summary.num_dead:
        console.print(
            f"  {summary.num_dead} were given up after three tries (dead_letter.jsonl): add "
            "--retry-dead to the same command to try them again."
        )
    if not summary.num_clips:
        console.print("[bold]Every clip was rejected[/bold]; the report says why, one by one.")
    for hint in hints(summary.num_clips, summary.rejected):
        console.print(f"  hint: {hint}", markup=False)
    console.print(f"Report: {output / 'report.html'}", markup=False)
    if version:
        console.print(f"Version: {version} (nemo-cosmos dataset show {version})", markup=False)
