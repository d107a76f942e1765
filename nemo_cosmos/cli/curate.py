"""``nemo-cosmos curate``: raw video in, training shards and a report out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_curation.settings import OPTIONAL_STAGES, CurateSettings
from nemo_cosmos.cli.dataset_commands import open_site_catalogue
from nemo_cosmos.cli.settings_options import settings_from, with_settings

if TYPE_CHECKING:
    from data_curation import CurateSummary


@with_settings(CurateSettings)
def command(
    source: Annotated[
        str,
        typer.Argument(metavar="INPUT", help="Folder, video, 'glob pattern', or .txt list."),
    ],
    output: Annotated[Path, typer.Argument(help="Folder for shards and report.")],
    skip: Annotated[
        str,
        typer.Option(help="Stages to leave out, such as 'text_overlay,embed', or 'all'."),
    ] = "",
    decoder: Annotated[
        str,
        typer.Option(help="Of video: 'pyav', 'torchcodec', 'dali', or 'auto' (DALI on GPUs)."),
    ] = "auto",
    shard_mb: Annotated[float, typer.Option(help="Size of a tar in MB.")] = 500.0,
    name: Annotated[
        str | None, typer.Option(help="Of the data set in the catalogue; else the folder's.")
    ] = None,
    catalogue: Annotated[
        str | None,
        typer.Option(help="File or mongodb:// URL of the catalogue; the site's by default."),
    ] = None,
    executor: Annotated[
        str,
        typer.Option(help="Where to work: 'processes' of this machine, 'ray', or 'inline'."),
    ] = "processes",
    workers: Annotated[
        int | None,
        typer.Option(help="How many processes (1), or most Ray actors of a kind (what fits)."),
    ] = None,
    min_workers: Annotated[int, typer.Option(help="Least Ray actors of a kind.")] = 1,
    address: Annotated[
        str,
        typer.Option(help="Of the Ray cluster: 'local' starts one, 'auto' finds one, HOST:PORT."),
    ] = "local",
    worker_memory_gb: Annotated[
        float, typer.Option(help="A process that takes more is replaced; 0 sets no limit.")
    ] = 0.0,
    retry_dead: Annotated[
        bool, typer.Option("--retry-dead", help="Try again what was given up.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
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

      nemo-cosmos curate 'raw/**/*.mp4' outputs/curated --split stride --stride-s 5 --short-side 720
    """
    from data_curation.executors import build_executor
    from data_curation.pipeline import curate

    settings = settings_from(
        CurateSettings,
        options,
        skip=OPTIONAL_STAGES if skip == "all" else _names(skip),
        decoder=decoder,
        max_shard_bytes=round(shard_mb * 1024 * 1024),
    )
    chosen = build_executor(executor, workers, worker_memory_gb, address, min_workers)
    summary = curate(
        source,
        output,
        settings,
        chosen,
        show="json" if as_json else "people",
        retry_dead=retry_dead,
    )
    version = ""
    if summary.num_clips:
        with open_site_catalogue(catalogue) as opened:
            root = source if Path(source).is_dir() else ""  # what the sources' names are below
            added = opened.add(output, name or output.absolute().name, root)
            version = f"{added['name']}@{added['version']}"
    if as_json:
        from dataclasses import asdict

        content = {**asdict(summary), "output": str(output), "version": version}
        typer.echo(json.dumps(content))
    else:
        _print_summary(summary, output)
        if version:
            typer.echo(f"Version: {version}")


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _print_summary(summary: CurateSummary, output: Path) -> None:
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
