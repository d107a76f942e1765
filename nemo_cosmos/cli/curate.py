"""``nemo-cosmos curate``: raw video in, training shards and a report out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from data_curation import CurateSummary


def command(
    source: Annotated[
        str,
        typer.Argument(metavar="INPUT", help="Folder, video, 'glob pattern', or .txt list."),
    ],
    output: Annotated[Path, typer.Argument(help="Folder for shards and report.")],
    split: Annotated[
        str, typer.Option(help="Where to cut: 'shot', 'stride' or 'none' (whole videos).")
    ] = "shot",
    min_clip_s: Annotated[float, typer.Option(help="Shorter clips are rejected.")] = 2.0,
    max_clip_s: Annotated[float, typer.Option(help="Longer clips are cut evenly.")] = 60.0,
    stride_s: Annotated[float, typer.Option(help="Clip length with --split stride.")] = 10.0,
    short_side: Annotated[
        int, typer.Option(help="Scale down to this shorter side in pixels; 0 keeps the size.")
    ] = 0,
    crf: Annotated[float, typer.Option(help="H.264 quality, 0 best to 51 worst.")] = 18.0,
    min_motion: Annotated[
        float, typer.Option(help="Least mean motion, in (height + width) per frame; 0: any.")
    ] = 0.00098,
    min_patch_motion: Annotated[
        float, typer.Option(help="Least motion of the stillest 256-pixel patch; 0: any.")
    ] = 0.000001,
    max_overlay: Annotated[
        float, typer.Option(help="Most burnt-in text, as a share of the picture; 1: any.")
    ] = 0.003,
    embedder: Annotated[
        str,
        typer.Option(help="'efficientnet-lite0', or a folder with a CLIP or other vision model."),
    ] = "efficientnet-lite0",
    min_cosine: Annotated[
        float, typer.Option(help="Clips this alike are semantic duplicates; 1 keeps them.")
    ] = 0.97,
    known: Annotated[
        list[str] | None,
        typer.Option(help="Output of an earlier run, whose clips are not taken again; repeatable."),
    ] = None,
    skip: Annotated[
        str, typer.Option(help="Stages to leave out, such as 'text_overlay,embed', or 'all'.")
    ] = "",
    shard_mb: Annotated[float, typer.Option(help="Size of a tar in MB.")] = 500.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Turn raw video into training shards.

    Probes, cuts by shot, transcodes to H.264, rejects still clips and burnt-in text, captions,
    embeds, removes duplicates (equal, re-encoded or alike), and writes WebDataset shards in
    cosmos-curate's layout with report.html, summary.json and rejected.jsonl. Nothing is dropped
    without a recorded reason. Run the same command again to resume, or to add new videos.

    "name.json" (caption or language), "name.action.npy" and other arrays beside "name.mp4" are
    carried along and cut with it. A fixed camera on a small robot moves little: lower --min-motion
    and --min-patch-motion for it, and keep clips that look alike with --min-cosine 1.

    Examples:
      nemo-cosmos curate raw/ outputs/curated

      nemo-cosmos curate robot/ outputs/robot --split none --min-clip-s 0.5 --min-motion 0
      --min-patch-motion 0

      nemo-cosmos curate 'raw/**/*.mp4' outputs/curated --split stride --stride-s 5 --short-side 720
    """
    from typing import cast

    from data_curation import (
        OPTIONAL_STAGES,
        CurateSettings,
        DeduplicateSettings,
        EmbedSettings,
        MotionSettings,
        SplitSettings,
        TextOverlaySettings,
        TranscodeSettings,
        curate,
    )
    from data_curation.stages.split import SplitMethod

    settings = CurateSettings(
        split=SplitSettings(cast("SplitMethod", split), min_clip_s, max_clip_s, stride_s),
        transcode=TranscodeSettings(short_side, crf),
        motion=MotionSettings(min_motion, min_patch_motion),
        text_overlay=TextOverlaySettings(max_overlay),
        embed=EmbedSettings(embedder),
        deduplicate=DeduplicateSettings(min_cosine, tuple(known or ())),
        skip=OPTIONAL_STAGES if skip == "all" else _names(skip),
        max_shard_bytes=round(shard_mb * 1024 * 1024),
    )
    summary = curate(source, output, settings, show_progress=not as_json)
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps({**asdict(summary), "output": str(output)}))
    else:
        _print_summary(summary, output)


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
    for reason, count in summary.rejected.items():
        console.print(f"  rejected: {count} {reason}")
    if summary.num_transient:
        console.print("  'stage_failure' may pass: run the same command again to try those anew.")
    if not summary.num_clips:
        console.print("[bold]Every clip was rejected[/bold]; the report says why, one by one.")
    console.print(f"Report: {output / 'report.html'}", markup=False)
