"""``nemo-cosmos evaluate --tokenizer``: let a tokenizer reconstruct videos, and score them."""

from __future__ import annotations

from pathlib import Path

from nemo_cosmos.cli.kit.checking import look_first
from nemo_cosmos.cli.training.evaluate.showing import Asked, first_reports, hold, show_scores
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.evaluation.report import metrics_table
from nemo_cosmos.progress import show_progress
from nemo_cosmos.tokenizing.trial import TokenizerTrial, evaluate_tokenizer, tokenizer_checks


def score(
    asked: Asked,
    tokenizer: Path,
    data: Path | None,
    window_frames: int | None,
    max_frames: int | None,
    limit: int | None,
) -> None:
    """Put a tokenizer on trial, show its scores and hold the requirements."""
    if data is None:
        raise ConfigError("A tokenizer is tried on videos: give --data VIDEOS beside --tokenizer.")
    requirements = asked.requirements
    required = tuple(one.name for one in requirements)
    trial = TokenizerTrial(asked.metrics, asked.suite, window_frames, max_frames, limit, required)
    look_first(tokenizer_checks(tokenizer, data, trial, asked.out), asked.check, asked.as_json)
    with first_reports():
        with show_progress("Reconstructing", "videos", asked.progress) as update:
            evaluation, record = evaluate_tokenizer(
                tokenizer,
                data,
                trial,
                out=asked.out,
                workers=asked.workers,
                launched=True,
                progress=update,
            )
        show_scores(evaluation, record, metrics_table, asked.as_json)
        hold(requirements, evaluation.scores)
