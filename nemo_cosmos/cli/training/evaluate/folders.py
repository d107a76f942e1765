"""``nemo-cosmos evaluate GENERATED TRUTH``: compare two folders of videos."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from nemo_cosmos.cli.kit.checking import look_first
from nemo_cosmos.cli.training.evaluate.showing import Asked, first_reports, hold, show_scores
from nemo_cosmos.evaluation import Alignment, scores_table
from nemo_cosmos.evaluation.files.folders import Comparison, compare_folders, evaluation_checks
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
    comparison = Comparison(
        generated,
        truth,
        chosen.names,
        Alignment(options.skip_frames, options.trim, options.resize),
        options.prompts,
        options.allow_mismatch,
        chosen.optional,
    )
    look_first(evaluation_checks(comparison, asked.out), asked.check, asked.as_json)
    with first_reports():
        with show_progress("Evaluating", "videos", asked.progress) as update:
            evaluation, record = compare_folders(
                comparison,
                out=asked.out,
                workers=asked.workers,
                launched=True,
                training=asked.training,
                progress=update,
            )
        show_scores(evaluation, record, scores_table, asked.as_json)
        hold(requirements, evaluation.scores)
