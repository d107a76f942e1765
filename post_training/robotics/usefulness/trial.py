"""Put a world model on a trial of its use: load it, look whether it is of this robot, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nemo_cosmos.checklist import Check
from nemo_cosmos.checkpoint.world.config import read_config
from nemo_cosmos.errors import ConfigError, InputError, nearest_names
from nemo_cosmos.evaluation.gate import Requirement
from nemo_cosmos.guardrails import GuardPolicy
from nemo_cosmos.inference.checks import look_at_weights
from nemo_cosmos.progress import Progress
from nemo_cosmos.storage import exported_folder
from nemo_cosmos.storage.outputs import check_apart, check_output_folder
from post_training.rendering import choose_renderer
from post_training.robotics.usefulness.environment import Scene
from post_training.robotics.usefulness.imagined import Imagination, ImaginedTable, form_of, told_in
from post_training.robotics.usefulness.planning import PLANNERS, PlanningTrial, plan_episodes
from post_training.robotics.usefulness.policies import actions_along
from post_training.robotics.usefulness.ranking import (
    SIMULATOR,
    WORLD,
    RankingTrial,
    rank_policies,
    visible_scenes,
)
from post_training.robotics.usefulness.records import Journal, make_record, write_record
from post_training.robotics.usefulness.seeing import Eye, distance_m
from post_training.robotics.usefulness.showing import (
    write_planning_plot,
    write_ranking_plot,
    write_sheet,
)
from post_training.robotics.usefulness.simulated import SimulatedTable

RANKING_FIGURES = ("rank_correlation", "success_error", "success_bias")

PLANNING_FIGURES = (
    *(f"success_{name}" for name in PLANNERS),
    "success_ratio",
    "success_gain",
    *(f"end_{name}" for name in PLANNERS),
)

_NUM_LOOKED_AT = 4
_MAX_ASTRAY_M = 0.15
_SHEETS = "pictures"


@dataclass(frozen=True)
class Subject:
    """The world on trial, and how.

    Attributes:
        world: the world's folder, or that of the run that exported it.
        out: folder of the report.
        how: how the model is asked.
        guards: the guards of what is written for people, by default all.
        renderer: ``auto``, ``egl``, ``osmesa`` or ``software``.
    """

    world: Path
    out: Path
    how: Imagination = field(default_factory=Imagination)
    guards: GuardPolicy | None = None
    renderer: str = "auto"


@dataclass(frozen=True)
class Stage:
    """A loaded world beside the simulator.

    Attributes:
        table: the simulator.
        imagined: the world.
        eye: judges the pictures of both.
        guards: the guards of what is written for people.
        journal: keeps what is finished.
        scenes: a few first scenes.
    """

    table: SimulatedTable
    imagined: ImaginedTable
    eye: Eye
    guards: GuardPolicy
    journal: Journal
    scenes: Sequence[Scene]

    def describe(self) -> dict[str, Any]:
        """Return the world and what its pictures depend on, for the record."""
        return self.imagined.describe() | {
            "simulator_seed": self.table.seed,
            "guards": sorted(guard.name for guard in self.guards.guards),
        }


def trial_checks(
    subject: Subject, figures: Sequence[str] = (), required: Sequence[Requirement] = ()
) -> list[Check]:
    """Return what to look at before a world is loaded.

    Args:
        subject: the world on trial.
        figures: names of the numbers that come out.
        required: bounds on them.
    """
    folder = exported_folder(subject.world)
    config = cache(lambda: read_config(folder))

    def output() -> str:
        check_output_folder(subject.out)
        check_apart(subject.out, [subject.world])
        for one in required:
            if one.name not in figures:
                raise ConfigError(
                    f"--require names '{one.name}', which this trial does not compute. The "
                    f"nearest are {nearest_names(one.name, figures)}."
                )
        return f"'{subject.out}' can be written"

    def world() -> str:
        form = form_of(config(), str(folder))
        told_in(config(), str(folder))
        return f"chunks of {form.num_actions} actions at {form.fps:g} a second"

    return [
        Check("output", output),
        Check("world", world),
        Check("weights", lambda: look_at_weights(config(), folder)),
    ]


@contextmanager
def on_stage(subject: Subject, seed: int, say: Callable[[str], None] = print) -> Iterator[Stage]:
    """Load a world beside a simulator of the same form.

    Args:
        subject: the world on trial.
        seed: seed of the scenes.
        say: gets a paragraph where OpenGL is unavailable.

    Yields:
        both, after a look whether the world shows this robot and camera.

    Raises:
        InputError: it does not, or the world has another control.
        MissingFileError, CheckpointError: the world cannot be read.
    """
    imagined = ImaginedTable.from_folder(subject.world, subject.how)
    table = SimulatedTable(imagined.form, seed, choose_renderer(subject.renderer, say))
    try:
        eye = Eye.learn(table)
        scenes = visible_scenes(table, eye, _NUM_LOOKED_AT)
        check_shown(imagined, eye, scenes)
        guards = subject.guards if subject.guards is not None else GuardPolicy.default()
        journal = Journal(subject.out, imagined.describe())
        yield Stage(table, imagined, eye, guards, journal, scenes)
    finally:
        table.close()


def check_shown(imagined: ImaginedTable, eye: Eye, scenes: Sequence[Scene]) -> None:
    """Look whether a world shows this robot through this camera, told to stand still.

    Raises:
        InputError: the gripper is not seen where it is.
    """
    form = imagined.form
    still_NKA = np.stack([actions_along(np.zeros(3), s.opening, form) for s in scenes])
    _, frames_NKHWC = imagined.step(
        [imagined.begin(scene) for scene in scenes], still_NKA, every_frame=False
    )
    seen_N3 = eye.gripper_m(frames_NKHWC[:, -1])
    astray_m = float(np.median(distance_m(seen_N3, np.stack([s.gripper_m for s in scenes]))))
    if astray_m > _MAX_ASTRAY_M:
        where = f"{100 * astray_m:.0f} cm away" if np.isfinite(astray_m) else "nowhere"
        raise InputError(
            f"'{imagined.world.folder}' does not show this robot: told to stand still, it shows "
            f"the gripper {where}. It is of another robot or camera than 'nemo-cosmos simulate' "
            "films, or hardly trained. Use a world that was post-trained on simulated episodes."
        )


def rank_world(
    subject: Subject,
    trial: RankingTrial | None = None,
    *,
    say: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Rank policies in a world model and in the simulator, and write the report.

    Args:
        subject: the world on trial.
        trial: what is tried.
        say: gets a paragraph where OpenGL is unavailable.
        progress: called with the episodes done and the episodes in all.

    Returns:
        the content of ``ranking.json``.

    Raises:
        As :func:`on_stage` and :func:`rank_policies`; RefusedError: a guard refused a picture.
    """
    trial = trial or RankingTrial()
    began_s = time.monotonic()
    with on_stage(subject, trial.seed, say) as stage:

        def show(environment: str, policy: str, frames: Sequence[np.ndarray]) -> None:
            context = {"trial": "ranking", "environment": environment, "policy": policy}
            file = subject.out / _SHEETS / f"{policy}-{environment}.png"
            # What the simulator draws is no model's work.
            guards = stage.guards if environment == WORLD else None
            write_sheet(file, [frames], guards, context)

        ranking = rank_policies(
            {SIMULATOR: stage.table, WORLD: stage.imagined},
            stage.table,
            stage.eye,
            trial,
            stage.journal,
            show=show,
            progress=progress,
        )
        inputs = stage.describe() | trial.describe()
    figures = ranking.figures()
    record = make_record("ranking", figures, ranking.rows(), inputs, time.monotonic() - began_s)
    title = f"rank correlation {figures['rank_correlation'].score}"
    write_ranking_plot(subject.out / "ranking.png", record["rows"], title)
    write_record(record, subject.out)
    return record


def plan_world(
    subject: Subject,
    trial: PlanningTrial | None = None,
    *,
    say: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Plan in a world model, act in the simulator, and write the report.

    Args:
        subject: the world on trial.
        trial: what is tried.
        say: gets a paragraph where OpenGL is unavailable.
        progress: called with the episodes done and the episodes in all.

    Returns:
        the content of ``planning.json``.

    Raises:
        As :func:`on_stage` and :func:`plan_episodes`; StorageFullError: no space left.
    """
    trial = trial or PlanningTrial()
    began_s = time.monotonic()
    with on_stage(subject, trial.seed, say) as stage:

        def show(planner: str, episode: int, frames: Sequence[np.ndarray]) -> None:
            # The simulator carries out all plans, so that no picture is a model's work.
            write_sheet(subject.out / _SHEETS / f"{episode:03d}-{planner}.png", [frames], None)

        planning = plan_episodes(
            stage.imagined,
            stage.table,
            stage.eye,
            trial,
            stage.journal,
            show=show,
            progress=progress,
        )
        inputs = stage.describe() | trial.describe()
    figures = planning.figures()
    record = make_record("planning", figures, planning.rows(), inputs, time.monotonic() - began_s)
    write_planning_plot(subject.out / "planning.png", planning.ends_m, trial.success_m)
    write_record(record, subject.out)
    return record
