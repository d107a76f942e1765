"""``nemo-cosmos evaluate --model``: put a world on trial."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from nemo_cosmos.cli.kit.checking import look_first
from nemo_cosmos.cli.kit.options import named_values, whole_numbers
from nemo_cosmos.cli.training.evaluate.showing import Asked, first_reports, hold, show_scores
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.evaluation.report import metrics_table
from nemo_cosmos.evaluation.suites import chosen_names
from nemo_cosmos.guardrails.site import site_policy
from nemo_cosmos.inference.offloading import check_offload
from nemo_cosmos.inference.trial.checks import trial_checks
from nemo_cosmos.inference.trial.run import evaluate_world
from nemo_cosmos.inference.trial.videos import Trial
from nemo_cosmos.progress import show_progress


class Tried(NamedTuple):
    """Options of a trial, as the command line takes them.

    Attributes:
        model: the world's folder.
        data: the recorded episodes.
        seeds: numbers with commas between.
        limit: how many episodes at most.
        options: NAME=VALUE for the generation.
        guards_off: names of guards that are not asked.
        offload: parts that wait in the CPU's memory while others work.
    """

    model: Path | None
    data: Path | None
    seeds: str
    limit: int | None
    options: list[str]
    guards_off: tuple[str, ...]
    offload: tuple[str, ...] = ()


def score(asked: Asked, tried: Tried) -> None:
    """Put a world on trial, show its scores and hold the requirements."""
    if tried.model is None or tried.data is None:
        raise ConfigError(
            "A model is tried on recorded episodes: give both --model WORLD and --data EPISODES."
        )
    chosen = chosen_names(asked.metrics, asked.suite)
    trial = Trial(
        chosen.names,
        whole_numbers(tried.seeds, "--seeds"),
        limit=tried.limit,
        options=named_values(tried.options),
        optional=chosen.optional,
    )
    requirements = asked.requirements
    check_offload(tried.offload, has_decoder=False)
    site_policy(tried.guards_off)  # an unknown name is an error before anything else
    required = [one.name for one in requirements]
    checks = trial_checks(tried.model, tried.data, trial, asked.out, required)
    look_first(checks, asked.check, asked.as_json)
    with first_reports():
        with show_progress("Trying", "videos", asked.progress) as update:
            evaluation, record = evaluate_world(
                tried.model,
                tried.data,
                trial,
                guards=partial(site_policy, tried.guards_off),
                out=asked.out,
                workers=asked.workers,
                launched=True,
                training=asked.training,
                offload=tried.offload,
                progress=update,
            )
        show_scores(evaluation, record, metrics_table, asked.as_json)
        hold(requirements, evaluation.scores)
