"""``nemo-cosmos evaluate``: compare generated videos with true ones, clip by clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli.checking import CheckOnly, look_first
from nemo_cosmos.cli.options import AllowMismatch, AsJson, listed, number
from nemo_cosmos.progress import show_progress


def command(
    generated: Annotated[Path, typer.Argument(help="Folder of generated mp4 files, or one file.")],
    truth: Annotated[
        Path | None,
        typer.Argument(help="Folder of true mp4 files of the same names; judges need none."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            "-m",
            help="Metric to compute. Repeatable. Default: all of a pair that need no weights.",
        ),
    ] = None,
    skip_frames: Annotated[
        int, number("Leave out the first frames, which were given.", least=0, most=1e6)
    ] = 0,
    trim: Annotated[bool, typer.Option(help="Cut both to the shorter one.")] = False,
    resize: Annotated[bool, typer.Option(help="Resize the truth to the generated size.")] = False,
    prompts: Annotated[
        Path | None,
        typer.Option(help="JSON file with the prompt of each video by its name, for judges."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for metrics.json, curves.json and the plot metrics.png."),
    ] = None,
    allow_mismatch: AllowMismatch = None,
    check: CheckOnly = False,
    as_json: AsJson = False,
) -> None:
    """Compare generated with real videos, matched by file name.

    Prints one line per clip and the mean. PSNR and SSIM are TokenBench's; "psnr_repeat_first" is
    the baseline that repeats the first frame; "motion_following" shows whether the object moves as
    it should. On request: "lpips_vgg", "frechet_efficientnet_lite0" (of the whole set) and
    "prompt_following" (a vision-language model behind NEMO_COSMOS_JUDGE_URL judges). With --out, a
    run that was stopped resumes.

    Examples:
        nemo-cosmos evaluate outputs/generated data/test
        nemo-cosmos evaluate generated test --skip-frames 1 --trim --resize --out outputs/evaluation
        nemo-cosmos evaluate generated test -m psnr -m lpips_vgg --json
    """
    from nemo_cosmos.evaluation import (
        Alignment,
        choose_metrics,
        evaluate_folders,
        read_prompts,
        scores_table,
        write_report,
    )
    from nemo_cosmos.evaluation.run import evaluation_checks

    allowed, names = listed(allow_mismatch), listed(metric)
    look_first(evaluation_checks(generated, truth, names, prompts, out, allowed), check, as_json)
    with show_progress("Evaluating", "videos", "json" if as_json else "people") as update:
        evaluation = evaluate_folders(
            generated,
            truth,
            choose_metrics(names or None),
            Alignment(skip_frames, trim, resize),
            prompts=read_prompts(prompts) if prompts is not None else None,
            work=out / ".work" / "scores" if out is not None else None,
            on_pair=update,
            allow_mismatch=allowed,
        )
    if out is not None:
        write_report(evaluation, out)
    if as_json:
        typer.echo(json.dumps(evaluation.to_json()))
    else:
        from rich.console import Console

        Console().print(scores_table(evaluation))
