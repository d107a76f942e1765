"""``nemo-cosmos evaluate``: compare generated videos with true ones, clip by clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemo_cosmos.cli.options import AsJson

if TYPE_CHECKING:
    import numpy as np

    from nemo_cosmos.evaluation import Metric


def command(
    generated: Annotated[Path, typer.Argument(help="Folder of generated mp4 files, or one file.")],
    truth: Annotated[Path, typer.Argument(help="Folder of true mp4 files of the same names.")],
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="Metric to compute; repeat for more. Default: all."),
    ] = None,
    skip_frames: Annotated[
        int, typer.Option(min=0, help="Leave out this many first frames: those that were given.")
    ] = 0,
    trim: Annotated[bool, typer.Option(help="Cut both to the shorter one.")] = False,
    resize: Annotated[bool, typer.Option(help="Resize the truth to the generated size.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and the plot metrics.png.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare generated with real videos, matched by file name.

    Prints one line per clip and the mean. PSNR and SSIM are TokenBench's; "psnr_repeat_first" is
    the baseline that repeats the first frame; "motion_following" says whether the object moves as
    told.

    Examples:
        nemo-cosmos evaluate outputs/generated data/test
        nemo-cosmos evaluate generated test --skip-frames 1 --trim --resize --out outputs/evaluation
        nemo-cosmos evaluate generated test -m psnr -m motion_following --json
    """
    from nemo_cosmos.evaluation import choose_metrics

    chosen = choose_metrics(metric)
    pairs = match_videos(generated, truth)
    scores: dict[str, dict[str, float]] = {}
    curves: dict[str, np.ndarray] = {}
    for name, (generated_file, truth_file) in pairs.items():
        scores[name], curves[name] = _compare(
            generated_file, truth_file, chosen, skip_frames, trim, resize
        )
    mean = {m.name: sum(row[m.name] for row in scores.values()) / len(scores) for m in chosen}
    result: dict[str, Any] = {"num_clips": len(scores), "mean": mean, "clips": scores}
    if out is not None:
        _write(out, result, curves, chosen, skip_frames)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        _print_table(result, chosen)


def match_videos(generated: Path, truth: Path) -> dict[str, tuple[Path, Path]]:
    """Pairs of files with the same name (or two single files), in order of name.

    Raises:
        MissingFileError: a folder is missing or holds no mp4, or a generated file has no truth.
    """
    from nemo_cosmos.errors import MissingFileError

    for path in (generated, truth):
        if not path.exists():
            raise MissingFileError(
                f"There is no file or folder '{path}'. Name a folder of mp4 files, or one file."
            )
    if generated.is_file() and truth.is_file():
        return {generated.name: (generated, truth)}
    generated_files = [generated] if generated.is_file() else sorted(generated.glob("*.mp4"))
    if not generated_files:
        raise MissingFileError(
            f"The folder '{generated}' holds no .mp4 file. Generate some first, for example with "
            "'nemo-cosmos predict', or name another folder."
        )
    lonely = [file.name for file in generated_files if not (truth / file.name).is_file()]
    if lonely:
        raise MissingFileError(
            f"{len(lonely)} of {len(generated_files)} generated videos have no counterpart in "
            f"'{truth}', the first is '{lonely[0]}'. Files are matched by name: rename them, or "
            "take those out of the folder."
        )
    return {file.name: (file, truth / file.name) for file in generated_files}


def _compare(
    generated_file: Path,
    truth_file: Path,
    chosen: list[Metric],
    skip_frames: int,
    trim: bool,
    resize: bool,
) -> tuple[dict[str, float], np.ndarray]:
    """Metrics of one pair, and its PSNR frame by frame."""
    from nemo_cosmos.errors import VideoError
    from nemo_cosmos.evaluation import evaluate_pair, psnr_per_frame
    from nemo_cosmos.video import decode, resize_frames

    generated_THWC = decode(generated_file).frames_THWC
    truth_THWC = decode(truth_file).frames_THWC
    if resize:
        height, width = generated_THWC.shape[1:3]
        truth_THWC = resize_frames(truth_THWC, (height, width))
    if trim:
        num_frames = min(len(generated_THWC), len(truth_THWC))
        generated_THWC, truth_THWC = generated_THWC[:num_frames], truth_THWC[:num_frames]
    if skip_frames >= min(len(generated_THWC), len(truth_THWC)):
        raise VideoError(
            f"'{generated_file}' has {len(generated_THWC)} frames, of which --skip-frames "
            f"{skip_frames} leaves none. Choose a smaller number."
        )
    generated_THWC, truth_THWC = generated_THWC[skip_frames:], truth_THWC[skip_frames:]
    scores = evaluate_pair(generated_THWC, truth_THWC, chosen)
    return scores, psnr_per_frame(generated_THWC, truth_THWC)


def _print_table(result: dict[str, Any], chosen: list[Metric]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['num_clips']} clips", show_footer=True)
    table.add_column("clip", footer="mean")
    for metric in chosen:
        arrow = "higher is better" if metric.higher_is_better else "lower is better"
        header = f"{metric.name}\n{metric.unit or '-'}, {arrow}"
        table.add_column(header, footer=f"{result['mean'][metric.name]:.3f}", justify="right")
    for name, row in result["clips"].items():
        table.add_row(name, *(f"{row[metric.name]:.3f}" for metric in chosen))
    Console().print(table)


def _write(
    out: Path,
    result: dict[str, Any],
    curves: dict[str, np.ndarray],
    chosen: list[Metric],
    skip_frames: int,
) -> None:
    """``metrics.json``, and ``metrics.png``: PSNR over time and the mean of every metric."""
    from matplotlib.figure import Figure

    from nemo_cosmos.storage import atomic_path

    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2))
    figure = Figure(figsize=(11, 4), layout="constrained")
    over_time, bars = figure.subplots(1, 2)
    for name, curve in curves.items():
        over_time.plot(range(skip_frames, skip_frames + len(curve)), curve, label=name, alpha=0.7)
    over_time.set(xlabel="frame", ylabel="PSNR / dB", title="Drift over time")
    if len(curves) <= 8:
        over_time.legend(fontsize=7)
    ratios = [metric for metric in chosen if not metric.unit]
    for place, metric in enumerate(ratios):
        values = [row[metric.name] for row in result["clips"].values()]
        bars.bar(place, result["mean"][metric.name], color="C0", alpha=0.5)
        bars.plot([place] * len(values), values, "k.", alpha=0.6)
    bars.set_xticks(range(len(ratios)), [metric.name for metric in ratios])
    bars.set(title="Mean (bar) and clips (dots)", ylim=(-1.05, 1.05))
    bars.axhline(0, color="black", linewidth=0.5)
    with atomic_path(out / "metrics.png") as temporary:
        figure.savefig(temporary, format="png", dpi=120)
