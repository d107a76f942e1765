"""The whole road: the parts in order, and the preparation between the commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.evaluation.record import read_record
from nemo_cosmos.quickstart import material
from nemo_cosmos.quickstart.plan import (
    CommandLine,
    Part,
    Places,
    evaluation_commands,
    generation_commands,
    plan,
)
from nemo_cosmos.quickstart.runner import RECORDS_FOLDER, Announce, Record, Step, run_steps
from nemo_cosmos.quickstart.settings import QuickstartSettings
from nemo_cosmos.storage.outputs import check_output_folder

RunCommand = Callable[[CommandLine], None]
"""Runs the words after ``nemo-cosmos``; raises the error of a command that fails."""


def walk(
    root: Path, settings: QuickstartSettings, run_command: RunCommand, announce: Announce
) -> list[Record]:
    """Walk the road from simulation to evaluation; finished parts are re-used.

    Args:
        root: the quickstart's folder.
        settings: its numbers.
        run_command: runs one command line.
        announce: called before each part.

    Returns:
        One record a part.
    """
    check_output_folder(root)
    places = Places(root)
    steps = [
        _step(part, _prepare(part.name, places), run_command) for part in plan(places, settings)
    ]
    steps += [_generate_step(places, settings, run_command), _evaluate_step(places, run_command)]
    return run_steps(root, steps, announce)


def check_own_folder(root: Path) -> None:
    """Require a folder that only the quickstart has written to, before it is deleted.

    Raises:
        ConfigError: it holds something else.
    """
    if root.is_dir() and any(root.iterdir()) and not (root / RECORDS_FOLDER).is_dir():
        raise ConfigError(
            f"'{root}' was not made by the quickstart, so --fresh does not delete it. Name the "
            "quickstart's folder, or leave --fresh out."
        )


def command_texts(
    places: Places, settings: QuickstartSettings, captions: Mapping[str, str]
) -> dict[str, list[str]]:
    """Return the command lines of each part as typed, the longest list cut to examples."""
    lines = {part.name: list(part.commands) for part in plan(places, settings)}
    generation = generation_commands(places, settings, captions)
    # One example of each kind: from words, from a frame, from actions.
    lines["generate"] = [generation[0], *generation[3:5]]
    lines["evaluate"] = evaluation_commands(places)
    return {
        name: [f"nemo-cosmos {shlex.join(line)}" for line in commands]
        for name, commands in lines.items()
    }


def _step(part: Part, prepare: Callable[[], None], run_command: RunCommand) -> Step:
    def run() -> Mapping[str, object]:
        prepare()
        _run_all(part.commands, run_command)
        return {}

    return Step(part.name, part.title, {"commands": [list(c) for c in part.commands]}, run)


def _prepare(name: str, places: Places) -> Callable[[], None]:
    """Return what prepares inputs that no command makes."""
    if name == "curate":
        return lambda: material.place_real_videos(places.real)
    return lambda: None


def _generate_step(places: Places, settings: QuickstartSettings, run_command: RunCommand) -> Step:
    def run() -> Mapping[str, object]:
        material.place_held_out(places, settings)
        material.place_direction_actions(places, settings)
        captions = material.held_out_captions(places)
        commands = generation_commands(places, settings, captions)
        _run_all(commands, run_command)
        return {"num_videos": len(commands)}

    # The captions are known once the episodes are rendered, which the steps before stand for.
    definition = {
        "window_frames": settings.window_frames,
        "commands": generation_commands(places, settings, {"key": "caption"}),
    }
    return Step("generate", "Generate video from words, a frame and actions", definition, run)


def _evaluate_step(places: Places, run_command: RunCommand) -> Step:
    def run() -> Mapping[str, object]:
        _run_all(evaluation_commands(places), run_command)
        return {
            folder.name: {name: one.value for name, one in read_record(folder).scores.items()}
            for folder in sorted(places.metrics.iterdir())
        }

    definition = {"commands": evaluation_commands(places)}
    return Step("evaluate", "Compare with held-out episodes", definition, run)


def _run_all(commands: Sequence[CommandLine], run_command: RunCommand) -> None:
    for line in commands:
        run_command(line)
