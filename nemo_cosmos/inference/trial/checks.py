"""What to look at before a world is put on trial."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from nemo_cosmos.checklist import Check
from nemo_cosmos.checkpoint.world.config import TOKENIZER_FOLDER, read_config
from nemo_cosmos.controls import controls_of
from nemo_cosmos.errors import ConfigError, InputError, counted, nearest_names
from nemo_cosmos.evaluation.episode import Episode, EpisodeSource
from nemo_cosmos.evaluation.files.recorded import recorded_needs
from nemo_cosmos.evaluation.obedience import OTHER, following_of, partners_of
from nemo_cosmos.evaluation.record import EVALUATION_FILE
from nemo_cosmos.inference.checks import fit_request, look_at_weights, meta_generator
from nemo_cosmos.inference.episodes import find_episodes, shape_of
from nemo_cosmos.inference.trial.scores import (
    control_name,
    score_names,
    trial_metrics,
)
from nemo_cosmos.inference.trial.videos import Trial, request_for
from nemo_cosmos.models.common.generator import max_views_of
from nemo_cosmos.storage import exported_folder
from nemo_cosmos.storage.outputs import check_apart, check_output_file, check_output_folder


def trial_checks(
    world: Path,
    data: Path,
    trial: Trial,
    out: Path | None = None,
    required: Sequence[str] = (),
) -> list[Check]:
    """Return what to look at before a world is loaded.

    Args:
        world: the world's folder.
        data: a folder of recordings, or shards.
        trial: what is tried.
        out: the folder of the report.
        required: names of scores that must come out.
    """
    folder = exported_folder(world)
    config = cache(lambda: read_config(folder))
    controls = cache(lambda: controls_of(config().controls))

    def episodes() -> str:
        signals = [signal for control in controls() for signal in control.signals]
        needs = recorded_needs(trial_metrics(trial.metrics, following_of(config().controls)))
        shape = shape_of(config().video, trial.options)
        several = max_views_of(meta_generator(config(), folder / TOKENIZER_FOLDER)) > 1
        found = find_episodes(data, signals, shape, trial.limit, needs, several)
        if signals and OTHER in trial.told:
            partners_of(found, signals)
        first = _first_that_fits(found)
        for seed in trial.seeds:
            request = request_for(first, first.control, trial.options, seed, several)
            fit_request(request, config(), folder / TOKENIZER_FOLDER)
        return f"{counted(len(found), 'episode')}, {counted(len(trial.seeds), 'seed')}"

    def output() -> str:
        if out is None:
            return "nothing is written"
        check_output_folder(out)
        check_output_file(out / EVALUATION_FILE)
        check_apart(out, [data, world])
        return f"'{out}' can be written"

    def metrics() -> str:
        following = following_of(config().controls)
        chosen = trial_metrics(trial.metrics, following)
        told = [one.name for one in trial.told] if controls() else []
        names = score_names(chosen, control_name(config()), told, following)
        for name in required:
            if name not in names:
                raise ConfigError(
                    f"--require names '{name}', which this trial does not compute. The nearest are "
                    f"{nearest_names(name, names)}."
                )
        return ", ".join(metric.name for metric in chosen)

    return [
        Check("output", output),
        Check("weights", lambda: look_at_weights(config(), folder)),
        Check("metrics", metrics),
        Check("episodes", episodes),
    ]


def _first_that_fits(episodes: Sequence[EpisodeSource]) -> Episode:
    """The first recording that can be read.

    Raises:
        InputError: none can; the reason of the first.
    """
    reasons: list[InputError] = []
    for episode in episodes:
        try:
            return episode.read()
        except InputError as error:
            reasons.append(error)
    raise reasons[0]
