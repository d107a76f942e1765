"""Put a world model on trial: let it make the videos of recorded episodes, and score them.

Each episode's first frame, words and control go in; the video that comes out is scored against
what happened. A model with a control is also told other episodes' controls and multiples of its
own, to see whether it obeys (:mod:`nemo_cosmos.evaluation.obedience`). All is kept below one
folder, so that a trial that was stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nemo_cosmos.checklist import Check
from nemo_cosmos.checkpoint.world.config import TOKENIZER_FOLDER, read_config
from nemo_cosmos.controls import get_controls
from nemo_cosmos.errors import ConfigError, InputError, counted, nearest_names
from nemo_cosmos.evaluation.episode import Episode, EpisodeSource
from nemo_cosmos.evaluation.metric import (
    CaseMetric,
    MeasuredMetric,
    Metric,
    PairMetric,
    VideoMetric,
)
from nemo_cosmos.evaluation.obedience import (
    DOSES,
    OTHER,
    OWN,
    Told,
    dose_response,
    obedience,
    partners,
    sensitivity_name,
)
from nemo_cosmos.evaluation.record import EVALUATION_FILE, EvaluationRecord, as_record, make_record
from nemo_cosmos.evaluation.recorded import recorded_needs
from nemo_cosmos.evaluation.registry import choose_metrics
from nemo_cosmos.evaluation.report import write_report
from nemo_cosmos.evaluation.run import evaluate_each
from nemo_cosmos.evaluation.scoring import CaseScores, Evaluation, summarise
from nemo_cosmos.guardrails import GuardPolicy
from nemo_cosmos.inference.checks import fit_request, look_at_weights
from nemo_cosmos.inference.episodes import Shape, find_episodes
from nemo_cosmos.inference.pipeline import WorldPipeline
from nemo_cosmos.inference.trial_videos import (
    MEASURED,
    MOTION_AMOUNT,
    NUM_GIVEN,
    Trial,
    VideoMaker,
    kept_videos,
    request_for,
)
from nemo_cosmos.progress import Progress
from nemo_cosmos.storage import exported_folder
from nemo_cosmos.storage.outputs import check_apart, check_output_file, check_output_folder


def evaluate_world(
    world: str | PathLike[str],
    data: str | PathLike[str],
    trial: Trial | None = None,
    *,
    guards: GuardPolicy | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Evaluation, dict[str, Any]]:
    """Load a world, put it on trial and write the report.

    Args:
        world: the world's folder.
        data: a folder of recordings, or shards.
        trial: what is tried.
        guards: the guards, by default all.
        out: the folder of the report; None to keep nothing.
        progress: called with the videos done and the videos in all.

    Returns:
        the scores, and the content of ``evaluation.json``.

    Raises:
        As :meth:`WorldPipeline.from_folder` and :func:`try_world`.
    """
    started_s = time.monotonic()
    pipeline = WorldPipeline.from_folder(world, guards)
    evaluation, inputs = try_world(pipeline, data, trial, out=out, progress=progress)
    record = make_record(evaluation, inputs, time.monotonic() - started_s)
    if out is not None:
        write_report(evaluation, out, record, kept_videos(out, evaluation.clips))
    return evaluation, record


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
    controls = cache(lambda: get_controls(spec.name for spec in config().controls))

    def episodes() -> str:
        signals = [signal for control in controls() for signal in control.signals]
        needs = recorded_needs(choose_metrics(trial.metrics or None))
        shape = _shape(config().video, trial.options)
        found = find_episodes(data, signals, shape, trial.limit, needs)
        if signals and OTHER in trial.told:
            partners(len(found))
        first = _first_that_fits(found)
        for seed in trial.seeds:
            request = request_for(first, first.control, trial.options, seed)
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
        chosen = [*choose_metrics(trial.metrics or None), *MEASURED]
        told = [one.name for one in trial.told] if controls() else []
        names = score_names(chosen, "_".join(one.name for one in controls()), told)
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


def score_names(metrics: Sequence[Metric], control: str, told: Sequence[str]) -> list[str]:
    """Names of all scores of a trial.

    Args:
        metrics: the metrics.
        control: the name of the model's control; empty for none.
        told: names of what the model is told besides its own control.
    """
    names = [metric.name for metric in metrics]
    compared = [metric for metric in metrics if _is_compared(metric)]
    names += [f"{metric.name}.{name}" for name in told for metric in compared]
    if OTHER.name in told:
        names += [sensitivity_name(control, one.name) for one in compared if one.is_quality]
    if control and len(set(told) & {dose.name for dose in DOSES}) > 1:
        names.append(f"{control}_dose_response")
    return names


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


def try_world(
    pipeline: WorldPipeline,
    data: str | PathLike[str],
    trial: Trial | None = None,
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Evaluation, dict[str, Any]]:
    """Generate the videos of recorded episodes and score them.

    Args:
        pipeline: the world.
        data: a folder of recordings, or shards; see :mod:`nemo_cosmos.inference.episodes`.
        trial: what is tried.
        out: a folder that keeps the videos (``videos/{told}/{episode}.mp4``) and the scores, so
            that the same call goes on after a stop; None to keep nothing.
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
    shape = _shape(pipeline.world.config.video, trial.options)
    metrics: list[Metric] = [*choose_metrics(trial.metrics or None), *MEASURED]
    needs = recorded_needs(metrics)
    episodes = find_episodes(data, list(signals.values()), shape, trial.limit, needs)
    compared = [metric for metric in metrics if _is_compared(metric)]
    maker = VideoMaker(pipeline, trial, episodes, out)
    told = (OWN, *trial.told) if signals else (OWN,)
    if signals and OTHER in told:
        maker.partners = partners(len(episodes))
    total = len(told) * len(trial.seeds) * len(episodes)
    done = 0
    evaluations: dict[str, Evaluation] = {}
    for one in told:
        # Other controls are compared video by video; numbers of whole sets are of the own alone.
        chosen = metrics if one == OWN else compared
        seeded = []
        for seed in trial.seeds:
            before = done
            seeded.append(
                evaluate_each(
                    {
                        episode.name: maker.source(n, one, seed)
                        for n, episode in enumerate(episodes)
                    },
                    chosen,
                    work=out / ".work" / "scores" if out is not None else None,
                    on_case=_counting(progress, before, total),
                    first_frame=NUM_GIVEN,
                )
            )
            done += len(episodes)
        evaluations[one.name] = _mean_over_seeds(seeded, chosen)
    evaluation = _with_obedience(evaluations, metrics, list(signals))
    return evaluation, maker.describe(data)


def _with_obedience(
    evaluations: Mapping[str, Evaluation], metrics: Sequence[Metric], controls: Sequence[str]
) -> Evaluation:
    """The scores of the own control, and beside them what the others show."""
    own = evaluations[OWN.name]
    if len(evaluations) == 1:
        return own
    control = "_".join(controls)
    clips = {told: found.clips for told, found in evaluations.items()}
    compared = [metric for metric in metrics if _is_compared(metric)]
    numbers, made = obedience(clips, compared, control)
    doses = [told.name for told in (OWN, *DOSES) if told.name in evaluations]
    if len(doses) > 2:
        made.append(
            MeasuredMetric(
                name=f"{control}_dose_response",
                higher_is_better=True,
                description="Spearman's correlation of the amount of motion with the factor on the "
                f"{control}: 1 where more of it always moves more",
            )
        )
        for name in numbers:
            amounts = {dose: clips[dose][name].scores[MOTION_AMOUNT.name] for dose in doses}
            numbers[name][made[-1].name] = dose_response(amounts)
    complete = {
        name: replace(own.clips[name], scores=own.clips[name].scores | more)
        for name, more in numbers.items()
    }
    lost = {
        name: f"{told}: {reason}"
        for told, found in evaluations.items()
        for name, reason in found.skipped.items()
    }
    whole = summarise(complete, [*metrics, *made], own.first_frame)
    return replace(whole, skipped=lost)


def _shape(trained: Mapping[str, Any], options: Mapping[str, Any]) -> Shape:
    """The videos that a model makes with these options."""
    wanted = dict(trained) | {
        name: options[name]
        for name in ("num_frames", "height", "width", "fps")
        if options.get(name) is not None
    }
    return Shape(
        int(wanted["num_frames"]), int(wanted["height"]), int(wanted["width"]), float(wanted["fps"])
    )


def _mean_over_seeds(evaluations: Sequence[Evaluation], metrics: Sequence[Metric]) -> Evaluation:
    """The mean of each episode's numbers over the seeds.

    Episodes count once, however many seeds they were generated with: their seeds are not
    independent of each other. Curves, features and words are those of the first seed.
    """
    first = evaluations[0]
    if len(evaluations) == 1:
        return first
    names = [name for name in first.clips if all(name in found.clips for found in evaluations)]
    clips: dict[str, CaseScores] = {}
    for name in names:
        seeded = [found.clips[name].scores for found in evaluations]
        mean = {m: float(np.mean([scores[m] for scores in seeded])) for m in seeded[0]}
        clips[name] = replace(first.clips[name], scores=mean)
    skipped = {name: why for found in evaluations for name, why in found.skipped.items()}
    return replace(summarise(clips, metrics, first.first_frame), skipped=skipped)


def _is_compared(metric: Metric) -> bool:
    """Whether videos that were told different controls are compared by it."""
    of_one_video = isinstance(metric, PairMetric | VideoMetric | CaseMetric | MeasuredMetric)
    return of_one_video and (metric.is_quality or metric == MOTION_AMOUNT)


def _counting(progress: Progress | None, before: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)


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
        )
        world, data = Path(inputs["world"]), Path(inputs["data"])
        hashes = {name: inputs["model"][name] for name in ("weights_sha256", "tokenizer_sha256")}
        episodes = list(inputs["episodes"])
        dtype = getattr(torch, str(inputs["dtype"]).removeprefix("torch."))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"The inputs in '{record.place}' are damaged: {error}. Evaluate the model again."
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
