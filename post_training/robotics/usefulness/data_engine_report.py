"""Try a world as a data engine and report: ``data_engine.json``, ``.md`` and pictures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from nemo_cosmos.checklist import Check
from nemo_cosmos.checkpoint.world.config import TOKENIZER_FOLDER, read_config
from nemo_cosmos.controls import ControlSpec, Signal, controls_of
from nemo_cosmos.errors import ConfigError, InputError, counted, nearest_names
from nemo_cosmos.evaluation.episode import EpisodeSource
from nemo_cosmos.evaluation.gate import Requirement
from nemo_cosmos.evaluation.statistics import Score
from nemo_cosmos.guardrails import GuardPolicy
from nemo_cosmos.inference.checks import fit_request, look_at_weights
from nemo_cosmos.inference.episodes import Shape, find_episodes, shape_of
from nemo_cosmos.inference.pipeline import WorldPipeline
from nemo_cosmos.inference.trial.videos import request_for
from nemo_cosmos.progress import Progress
from nemo_cosmos.storage import atomic_path, exported_folder
from nemo_cosmos.storage.outputs import check_apart, check_output_folder
from nemo_cosmos.storage.paths import real_path
from nemo_cosmos.video.pictures import Frames, film_strip
from post_training.robotics.signal import ACTION, embodiments_of
from post_training.robotics.usefulness.data_engine import (
    EngineTrial,
    check_no_leak,
    compare_data,
    figure_names,
    read_steps,
)
from post_training.robotics.usefulness.data_engine_findings import (
    BOTH,
    GENERATED,
    LEARNED,
    MEAN,
    REAL,
    Findings,
)
from post_training.robotics.usefulness.generated_episodes import OWN, EpisodeMaker, variants
from post_training.robotics.usefulness.records import make_record, write_record

KIND = "data_engine"
_COLOURS = {REAL: "#3f6600", GENERATED: "#c2571a", BOTH: "#2a6fbb", MEAN: "#9aa5a0"}
_LABELS = {
    REAL: "real",
    GENERATED: "generated, as many",
    BOTH: "generated, then real",
    MEAN: "the mean action",
}
_NUM_STRIPS = 4


def engine_checks(
    world: Path,
    data: Path,
    held_out: Path,
    out: Path,
    trial: EngineTrial,
    required: Sequence[Requirement] = (),
) -> list[Check]:
    """Return what to look at before a world is loaded.

    Args:
        world: the world's folder.
        data: recordings to learn from.
        held_out: recordings to test on.
        out: folder of the report.
        trial: what is tried.
        required: bounds on the numbers that come out.
    """
    folder = exported_folder(world)
    config = cache(lambda: read_config(folder))

    def signals() -> list[Signal]:
        controls = controls_of(config().controls)
        return _with_actions([one for c in controls for one in c.signals], str(folder))

    def output() -> str:
        check_output_folder(out)
        check_apart(out, [data, held_out, world])
        return f"'{out}' can be written"

    def episodes() -> str:
        real, tested = find_both(data, held_out, signals(), shape_of(config().video, {}), trial)
        first = next(iter(real)).read()
        request = request_for(first, first.control, trial.options, 1)
        fit_request(request, config(), folder / TOKENIZER_FOLDER)
        names = figure_names(trial, len(real), number_names(config().controls))
        for one in required:
            if one.name not in names:
                raise ConfigError(
                    f"--require names '{one.name}', which this trial does not compute. The nearest "
                    f"are {nearest_names(one.name, names)}."
                )
        sizes = ", ".join(map(str, trial.sizes_for(len(real))))
        return f"{sizes} to learn from, {counted(len(tested), 'recording')} to test on"

    return [
        Check("output", output),
        Check("weights", lambda: look_at_weights(config(), folder)),
        Check("episodes", episodes),
    ]


def find_both(
    data: str | PathLike[str],
    held_out: str | PathLike[str],
    signals: Sequence[Signal],
    shape: Shape,
    trial: EngineTrial,
) -> tuple[list[EpisodeSource], list[EpisodeSource]]:
    """List the recordings to learn from and those to test on.

    Raises:
        ConfigError: both are the same folder.
        MissingFileError: one holds no recording.
    """
    if real_path(data) == real_path(held_out):
        raise ConfigError(
            f"--data and --held-out are both '{data}'. A network must be tested on what it did not "
            "learn from: split the recordings into two folders."
        )
    found = [find_episodes(place, signals, shape, trial.limit) for place in (data, held_out)]
    return found[0], found[1]


def _with_actions(signals: Sequence[Signal], world: str) -> list[Signal]:
    if not any(signal.name == ACTION.name for signal in signals):
        told = ", ".join(signal.name for signal in signals) or "nothing"
        raise InputError(
            f"'{world}' is steered by {told}, so that it makes no episodes with actions. Use a "
            "world that was post-trained on actions (diffusion_nano_action)."
        )
    if any(signal.kind_of is not None for signal in signals):
        raise InputError(
            f"Several robots steer '{world}', and the networks of a data engine learn the numbers "
            "of one robot. Use a world that was post-trained on that robot's actions alone."
        )
    return list(signals)


def number_names(controls: Sequence[ControlSpec]) -> tuple[str, ...]:
    """Names of the numbers that a world's robot is told, each once.

    Args:
        controls: the world's controls, an action of one embodiment among them.
    """
    (options,) = (control.options for control in controls if control.name == ACTION.name)
    (robot,) = embodiments_of(options)
    names = robot.names
    return tuple(
        name if names.count(name) == 1 else f"{name}_{place}" for place, name in enumerate(names)
    )


def try_data_engine(
    world: str | PathLike[str],
    data: str | PathLike[str],
    held_out: str | PathLike[str],
    out: Path,
    trial: EngineTrial | None = None,
    *,
    guards: GuardPolicy | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Load a world, let it make episodes, see what they teach, and write the report.

    Args:
        world: the world's folder, or that of the run that exported it.
        data: recordings to learn from; their first frames and actions are what the world is given.
        held_out: recordings to test on, which neither the networks nor the world have seen.
        out: folder of the report and of the generated episodes; a run that was stopped resumes.
        trial: what is tried.
        guards: the guards, by default all.
        progress: called with the videos and networks done, and those in all.

    Returns:
        the content of ``data_engine.json``.

    Raises:
        InputError: the world takes no actions, or there are too few recordings.
        ConfigError: a recording is on both sides, or an option is unknown.
        MissingFileError, CheckpointError: something cannot be read.
    """
    trial, began_s = trial or EngineTrial(), time.monotonic()
    pipeline = WorldPipeline.from_folder(world, guards)
    signals = _with_actions(list(pipeline.signals.values()), str(world))
    shape = shape_of(pipeline.world.config.video, trial.options)
    found, held = find_both(data, held_out, signals, shape, trial)
    skipped: dict[str, str] = {}
    sources, real = read_steps(found, str(data), skipped)
    tested_sources, tested = read_steps(held, str(held_out), skipped)
    by_name = {source.name: steps for source, steps in zip(tested_sources, tested, strict=True)}
    learned = {source.name: steps for source, steps in zip(sources, real, strict=True)}
    check_no_leak(learned, by_name, (str(data), str(held_out)))
    sizes = trial.sizes_for(len(sources))
    num = sizes[-1]
    maker = EpisodeMaker(pipeline, sources[:num], sizes, out / "generated", trial.options)
    numbers = number_names(pipeline.world.config.controls)
    findings = compare_data(maker, real[:num], by_name, trial, numbers, progress)
    inputs = {
        "world": str(pipeline.world.folder.resolve()),
        "model": pipeline.model_record,
        "data": str(Path(data).resolve()),
        "held_out": str(Path(held_out).resolve()),
        "episodes": [source.name for source in maker.sources],
        "held_out_episodes": findings.names,
        "sizes": sizes,
        **trial.describe(),
        "guards": sorted(guard.name for guard in pipeline.guards.guards),
        "averaged_numbers": [
            name for name, is_told in zip(findings.numbers, findings.told_A, strict=True) if is_told
        ],
        "skipped": skipped,
        "refused": {name: str(error) for name, error in maker.refused.items()},
    }
    figures, duration_s = findings.figures(), time.monotonic() - began_s
    record = make_record(KIND, figures, findings.rows(figures), inputs, duration_s)
    write_learning_curves(out / f"{KIND}.png", record, sizes)
    write_scatter(out / "predictions.png", findings)
    write_strips(out / "generated.png", maker)
    write_record(record, out)
    return record


def write_learning_curves(file: Path, record: Mapping[str, Any], sizes: Sequence[int]) -> None:
    """Draw the error over the number of recordings, with intervals.

    Args:
        file: the PNG.
        record: content of ``data_engine.json``.
        sizes: numbers of recordings.
    """
    picture, axes = _axes((6.4, 4.2))
    for offset, one in enumerate((*LEARNED, MEAN)):
        found = [record["scores"][f"error.{one}.{size}"] for size in sizes]
        scores = [Score(s["value"], s["low"], s["high"], s["num"]) for s in found]
        values = np.array([score.value for score in scores])
        ends = [(s.low or s.value, s.high or s.value) for s in scores]
        low, high = np.array(ends).T
        # Side by side, or one interval would hide the other.
        places = np.array(sizes) * 1.03 ** (offset - 1.5)
        axes.errorbar(
            places,
            values,
            yerr=np.stack([values - low, high - values]),
            color=_COLOURS[one],
            label=_LABELS[one],
            capsize=3,
            marker="o",
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(sizes), [str(size) for size in sizes], minor=False)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("recorded episodes to learn from")
    axes.set_ylabel("error of the actions, in standard deviations")
    axes.legend(frameon=False, fontsize=8)
    _save(picture, file)


def write_scatter(file: Path, findings: Findings) -> None:
    """Draw what the networks of the largest size say against the truth, a plot for each number."""
    size, num = findings.sizes[-1], len(findings.numbers)
    columns = min(4, num)
    picture = Picture(figsize=(2.6 * columns, 2.7 * -(-num // columns)), layout="constrained")
    plots = np.atleast_1d(picture.subplots(-(-num // columns), columns)).ravel()
    for axes in plots[num:]:
        axes.set_visible(False)
    true = np.concatenate(findings.wanted)
    for number, axes in enumerate(plots[:num]):
        ends = [float(true[:, number].min()), float(true[:, number].max())]
        axes.plot(ends, ends, color=_COLOURS[MEAN], linewidth=0.8)
        for one in (GENERATED, REAL):
            made = np.concatenate(findings.predicted[one, size][0])
            dots = axes.plot(true[:, number], made[:, number], ".", color=_COLOURS[one])
            dots[0].set(markersize=3, alpha=0.35, label=_LABELS[one])
        axes.set_title(findings.numbers[number], fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    plots[0].legend(frameon=False, fontsize=7)
    picture.supxlabel(f"true action of {counted(len(findings.names), 'held-out episode')}")
    picture.supylabel(f"predicted, after {counted(size, 'episode')}")
    _save(picture, file)


def write_strips(file: Path, maker: EpisodeMaker) -> None:
    """Draw film strips: each recording above what the world made from its first frame.

    Args:
        file: the PNG.
        maker: has made the episodes.
    """
    rows: list[tuple[str, Frames]] = []
    for index, source in enumerate(maker.sources[:_NUM_STRIPS]):
        rows.append((source.name, film_strip(source.read().truth_THWC)))
        rows += [
            ("told its actions" if variant.name == OWN else "told other actions", film_strip(film))
            for variant in variants(1)
            if f"{variant.name}/{source.name}" not in maker.refused
            and (film := maker.film_if_made(variant, index)) is not None
        ]
    height, width = rows[0][1].shape[:2]
    size_in = (8.0, (8.0 * height / width + 0.25) * len(rows))
    picture = Picture(figsize=size_in, layout="constrained")
    plots = np.atleast_1d(picture.subplots(len(rows), 1)).ravel()
    for axes, (label, strip) in zip(plots, rows, strict=True):
        axes.imshow(strip)
        axes.set_axis_off()
        axes.set_title(label, fontsize=8, loc="left", pad=2)
    _save(picture, file)


def _axes(size_in: tuple[float, float]) -> tuple[Picture, Axes]:
    picture = Picture(figsize=size_in, layout="constrained")
    axes = picture.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return picture, axes


def _save(picture: Picture, file: Path) -> None:
    with atomic_path(file) as temporary:
        picture.savefig(temporary, format="png", dpi=120)
