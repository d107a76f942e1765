"""Put a world model on trial: let it make the videos of recorded episodes, and score them.

Each episode's first frame, words and control go in; the video that comes out is scored against
what happened. A model with a control is also told other episodes' controls and multiples of its
own, to see whether it obeys (:mod:`nemo_cosmos.evaluation.obedience`). All is kept below one
folder, so that a trial that was stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from nemo_cosmos.checkpoint.world.config import read_config
from nemo_cosmos.controls import controls_of
from nemo_cosmos.errors import ConfigError, InputError
from nemo_cosmos.evaluation.files.recorded import recorded_needs
from nemo_cosmos.evaluation.obedience import OTHER, OWN, Told, following_of, partners_of
from nemo_cosmos.evaluation.page import Controls, Shown
from nemo_cosmos.evaluation.record import EvaluationRecord, as_record, make_record
from nemo_cosmos.evaluation.report import write_report
from nemo_cosmos.evaluation.run import Part, score_parts
from nemo_cosmos.evaluation.scoring import Evaluation
from nemo_cosmos.evaluation.sharing import Crew, shared
from nemo_cosmos.guardrails import GuardPolicy
from nemo_cosmos.inference.episodes import find_episodes, shape_of
from nemo_cosmos.inference.pipeline import WorldPipeline
from nemo_cosmos.inference.trial.scores import (
    control_name,
    is_compared,
    trial_evaluation,
    trial_metrics,
)
from nemo_cosmos.inference.trial.videos import (
    NUM_GIVEN,
    Trial,
    VideoMaker,
    kept_videos,
)
from nemo_cosmos.models.common.generator import max_views_of
from nemo_cosmos.progress import Progress
from nemo_cosmos.storage import exported_folder
from nemo_cosmos.storage.run_curves import read_curves


def evaluate_world(
    world: str | PathLike[str],
    data: str | PathLike[str],
    trial: Trial | None = None,
    *,
    guards: GuardPolicy | Callable[[], GuardPolicy] | None = None,
    out: Path | None = None,
    workers: int = 1,
    launched: bool = False,
    training: Path | None = None,
    offload: Collection[str] = (),
    progress: Progress | None = None,
) -> tuple[Evaluation, dict[str, Any]]:
    """Load a world, put it on trial and write the report.

    Args:
        world: the world's folder.
        data: a folder of recordings, or shards.
        trial: what is tried.
        guards: the guards, by default all; several processes need a function that makes them.
        out: the folder of the report; None to keep nothing.
        workers: how many processes make videos and score them, this one among them. Each loads the
            whole model.
        launched: whether all processes that ``torchrun`` started call this and share the videos.
        training: the folder of the run that trained the world, whose curves the report shows; by
            default the one that holds the world's folder.
        offload: parts of the world that wait in the CPU's memory while others work.
        progress: called with the videos done and the videos in all.

    Returns:
        the scores, and the content of ``evaluation.json``.

    Raises:
        ShareDone: this is not the first process, and its share is scored.
        As :meth:`WorldPipeline.from_folder` and :func:`try_world`.
    """
    started_s = time.monotonic()
    call = partial(_load_and_try, world, data, trial, guards, out, offload)
    with shared(call, out, workers, launched) as (work, crew):
        evaluation, inputs = call(work=work, crew=crew, progress=progress)
        record = make_record(evaluation, inputs, time.monotonic() - started_s)
        if out is not None:
            shown = Shown(
                kept_videos(out, evaluation.clips),
                _controls(world, data, trial or Trial()),
                read_curves(training if training is not None else exported_folder(world).parent),
            )
            write_report(evaluation, out, record, shown)
    return evaluation, record


def _controls(
    world: str | PathLike[str], data: str | PathLike[str], trial: Trial
) -> Controls | None:
    """What gives the control that an episode was told; None for a world without one."""
    config = read_config(exported_folder(world))
    signals = [signal for control in controls_of(config.controls) for signal in control.signals]
    episodes = find_episodes(data, signals, shape_of(config.video, trial.options), trial.limit)
    by_name = {episode.name: episode for episode in episodes}
    return (lambda name: by_name[name].read_control()) if signals else None


def _load_and_try(
    world: str | PathLike[str],
    data: str | PathLike[str],
    trial: Trial | None,
    guards: GuardPolicy | Callable[[], GuardPolicy] | None,
    out: Path | None,
    offload: Collection[str],
    *,
    work: Path | None = None,
    crew: Crew | None = None,
    progress: Progress | None = None,
) -> tuple[Evaluation, dict[str, Any]]:
    """Make and score the videos; all processes of a crew call this alike."""
    policy = guards() if callable(guards) else guards
    pipeline = WorldPipeline.from_folder(world, policy, offload=offload)
    return try_world(pipeline, data, trial, out=out, work=work, crew=crew, progress=progress)


def try_world(
    pipeline: WorldPipeline,
    data: str | PathLike[str],
    trial: Trial | None = None,
    *,
    out: Path | None = None,
    work: Path | None = None,
    crew: Crew | None = None,
    progress: Progress | None = None,
) -> tuple[Evaluation, dict[str, Any]]:
    """Generate the videos of recorded episodes and score them.

    Args:
        pipeline: the world.
        data: a folder of recordings, or shards; see :mod:`nemo_cosmos.inference.episodes`.
        trial: what is tried.
        out: a folder that keeps the videos (``videos/{told}/{episode}.mp4``); None for none.
        work: a folder that keeps the scores, so that the same call goes on after a stop.
        crew: the processes that share the videos.
        progress: called with the videos done and the videos in all.

    Returns:
        the scores, and the inputs for the record.

    Raises:
        MissingFileError: there are no recordings.
        InputError: no episode fits the model, or it takes no first frame.
        ConfigError: a metric or option is unknown.
    """
    trial = trial or Trial()
    signals = pipeline.signals
    if not pipeline.generator.takes_frames:
        raise InputError(
            f"'{pipeline.world.folder}' makes video from text alone, so that no recorded episode "
            "can be continued. Generate videos with 'nemo-cosmos generate' and compare the folders "
            "with metrics of whole sets."
        )
    shape = shape_of(pipeline.world.config.video, trial.options)
    following = following_of(pipeline.world.config.controls)
    metrics = trial_metrics(trial.metrics, following)
    # Nobody asked for it by name: an episode does without it rather than without any score.
    optional = trial.optional if trial.metrics else trial.optional | {following}
    needs = recorded_needs(metrics)
    several = max_views_of(pipeline.generator) > 1
    episodes = find_episodes(data, list(signals.values()), shape, trial.limit, needs, several)
    maker = VideoMaker(pipeline, trial, episodes, out)
    told = (OWN, *trial.told) if signals else (OWN,)
    if signals and OTHER in told:
        maker.partners = partners_of(episodes, list(signals.values()))
    # Other controls are compared video by video; numbers of whole sets are of the own alone.
    compared = [metric for metric in metrics if is_compared(metric)]
    parts = [
        Part(
            {episode.name: maker.source(n, one, seed) for n, episode in enumerate(episodes)},
            metrics if one == OWN else compared,
            optional,
            NUM_GIVEN,
        )
        for one in told
        for seed in trial.seeds
    ]
    scored = iter(score_parts(parts, work=work, on_case=progress, crew=crew))
    by_told = {one.name: [next(scored) for _ in trial.seeds] for one in told}
    control = control_name(pipeline.world.config)
    evaluation = trial_evaluation(by_told, metrics, control, optional, following)
    return evaluation, maker.describe(data)


def repeat_trial(
    record: EvaluationRecord, guards: GuardPolicy | None = None, progress: Progress | None = None
) -> EvaluationRecord:
    """Put a recorded world on the same trial again.

    Args:
        record: what was recorded.
        guards: the guards, by default all.
        progress: called with the videos done and the videos in all.

    Raises:
        ConfigError: the weights or the episodes are no longer what they were, or the record is
            damaged.
        MissingFileError: the world or the data are gone.
    """
    inputs = record.inputs
    try:
        trial = Trial(
            tuple(inputs["metrics"]),
            tuple(int(seed) for seed in inputs["seeds"]),
            tuple(Told(str(name), bool(own), float(scale)) for name, own, scale in inputs["told"]),
            inputs["limit"],
            dict(inputs["options"]),
            frozenset(inputs.get("optional", ())),
        )
        world, data = Path(inputs["world"]), Path(inputs["data"])
        hashes = {name: inputs["model"][name] for name in ("weights_sha256", "tokenizer_sha256")}
        episodes = list(inputs["episodes"])
        dtype = getattr(torch, str(inputs["dtype"]).removeprefix("torch."))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"The inputs in '{record.place}' are damaged: {str(error).rstrip('.')}. "
            "Evaluate the model again."
        ) from error
    pipeline = WorldPipeline.from_folder(world, guards, dtype)
    for name, before in hashes.items():
        if pipeline.model_record[name] != before:
            raise ConfigError(
                f"The weights in '{world}' are not those of '{record.place}': {name} is "
                f"{pipeline.model_record[name]}, was {before}. Restore the model, or evaluate "
                "again."
            )
    evaluation, again = try_world(pipeline, data, trial, progress=progress)
    if again["episodes"] != episodes:
        raise ConfigError(
            f"The episodes in '{data}' are not those of '{record.place}' any more. Restore them, "
            "or evaluate again."
        )
    return as_record(make_record(evaluation, again), "the repetition")
