"""``nemo-cosmos evaluate GENERATED TRUTH``: compare two folders of videos."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from nemo_cosmos.cli.kit.checking import look_first
from nemo_cosmos.cli.training.evaluate.showing import Asked, hold, show
from nemo_cosmos.evaluation import (
    Alignment,
    choose_metrics,
    evaluate_folders,
    match_videos,
    read_prompts,
    scores_table,
    write_report,
)
from nemo_cosmos.evaluation.folders import describe_folders, evaluation_checks
from nemo_cosmos.evaluation.record import make_record
from nemo_cosmos.evaluation.suites import chosen_names
from nemo_cosmos.progress import show_progress


class Compared(NamedTuple):
    """Options of a comparison of two folders, as the command line takes them.

    Attributes:
        skip_frames: the number of first frames that are left out.
        trim: whether both videos are cut to the shorter one.
        resize: whether the truth is resized to the generated size.
        prompts: the file of prompts.
        allow_mismatch: kinds of difference between two videos that are meant.
    """

    skip_frames: int
    trim: bool
    resize: bool
    prompts: Path | None
    allow_mismatch: tuple[str, ...]


def score(asked: Asked, generated: Path, truth: Path | None, options: Compared) -> None:
    """Compare two folders, write the report and hold the requirements."""
    requirements = asked.requirements
    chosen = chosen_names(asked.metrics, asked.suite, [one.name for one in requirements])
    out, prompts, allowed = asked.out, options.prompts, options.allow_mismatch
    checks = evaluation_checks(generated, truth, chosen.names, prompts, out, allowed)
    look_first(checks, asked.check, asked.as_json)
    started_s = time.monotonic()
    alignment = Alignment(options.skip_frames, options.trim, options.resize)
    with show_progress("Evaluating", "videos", asked.progress) as update:
        evaluation = evaluate_folders(
            generated,
            truth,
            choose_metrics(chosen.names or None),
            alignment,
            prompts=read_prompts(prompts) if prompts is not None else None,
            work=out / ".work" / "scores" if out is not None else None,
            on_pair=update,
            allow_mismatch=allowed,
            optional=chosen.optional,
        )
    inputs = describe_folders(generated, truth, alignment, prompts, allowed, chosen.optional)
    record = make_record(evaluation, inputs, time.monotonic() - started_s)
    if out is not None:
        shown = {
            name: {"truth": pair.truth, "generated": pair.generated}
            if pair.truth is not None
            else {"generated": pair.generated}
            for name, pair in match_videos(generated, truth).items()
        }
        write_report(evaluation, out, record, shown)
    show(record if asked.as_json else scores_table(evaluation), asked.as_json)
    hold(requirements, evaluation.scores)
