"""``nemo-cosmos simulate``: render a robot, simple physics, rooms or drives, with the truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from nemo_cosmos.cli.kit.checking import CheckOnly, look_first
from nemo_cosmos.cli.kit.options import AsJson, listed, number, parse_size
from nemo_cosmos.errors import ConfigError, counted, nearest_names
from nemo_cosmos.progress import Progress, show_progress

if TYPE_CHECKING:
    from nemo_cosmos.checklist import Check
    from post_training.recordings import Recordings
    from post_training.rendering import FilmReport, FilmSettings

FPS = {"robot": 10.0, "physics": 20.0, "rooms": 10.0, "driving": 10.0}
"""Scenes, and the frame rate of each by default."""
OF_SCENE = {
    "scenario": "physics",
    "embodiment": "robot",
    "rig": "driving",
    "layout": "driving",
    "town": "driving",
    "room": "rooms",
    "paint": "rooms",
}
"""Options that one scene alone has."""


def command(
    out: Annotated[Path, typer.Argument(help="Folder for the episodes; may contain some already.")],
    scene: Annotated[str, typer.Option(help="robot, physics, rooms or driving.")] = "robot",
    episodes: Annotated[
        int, number("Episodes that the folder is filled up to.", least=1, most=1e6)
    ] = 200,
    frames: Annotated[int, number("Frames of each episode.", least=2, most=100000)] = 33,
    fps: Annotated[
        float | None,
        number("Frames per second; 20 for physics, else 10.", least=1, most=1000),
    ] = None,
    size: Annotated[str, typer.Option(help="Height x width in pixels, even.")] = "96x128",
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="Of physics: this scenario instead of all eight. Repeatable."),
    ] = None,
    embodiment: Annotated[
        str | None,
        typer.Option(help="Of the robot: what its actions are written in; bridge_7 by default."),
    ] = None,
    rig: Annotated[
        list[str] | None,
        typer.Option(
            help="Of driving: a rig of conf/rigs.yaml or FILE.yaml:NAME; by default three. "
            "Repeatable: drives take turns."
        ),
    ] = None,
    layout: Annotated[
        bool, typer.Option(help="Of driving: also draw what a map shows into each view.")
    ] = False,
    room: Annotated[
        int | None,
        number("Of rooms: seed of the one that all paths lead through.", least=0, most=2**32 - 1),
    ] = None,
    town: Annotated[
        int | None,
        number(
            "Of driving: seed of the one that all drives lead through.", least=0, most=2**32 - 1
        ),
    ] = None,
    paint: Annotated[
        str | None,
        typer.Option(help="Of rooms: patterns, which are sharp (the default), or soft clouds."),
    ] = None,
    seed: Annotated[int, number("Seed of all randomness.", least=0, most=2**32 - 1)] = 1,
    workers: Annotated[int, number("Processes that render; 0: this one.", least=0, most=4096)] = 2,
    renderer: Annotated[
        str, typer.Option(help="auto, egl, osmesa, or software, which needs no system library.")
    ] = "auto",
    check: CheckOnly = False,
    as_json: AsJson = False,
) -> None:
    """Render robot episodes or physics in MuJoCo, a camera in rooms, or drives through a town.

    robot: a Franka Panda reaches for, pushes and lifts coloured blocks on a table, and moves about.
    Each episode is an mp4, its 7-D actions and states as npy, the camera and the blocks' places as
    npz, and a JSON with its instruction.

    physics: things fall, slide, collide, swing, roll, topple, bounce and are pushed. Each episode
    is an mp4, a JSON with its caption, and an npz with masks, positions, velocities and energies of
    its objects. Where there is a push, two episodes share their first frame and not their push.

    rooms: a camera moves through painted rooms in which nothing else does. Each episode is an mp4,
    a JSON, its camera at each frame and the depth of each pixel as npz. Every room is a new one,
    unless --room names one.

    driving: a car drives along streets and around corners. Each episode is an mp4 for each camera
    of its rig, the car's path, the rig, and a JSON; with --layout, lanes and cars as lines, too.
    Every town is a new one, unless --town names one.

    Every tenth episode (or pair of rounds) is for validation. The same settings give the same
    episodes; a second run makes what is missing.

    The robot and physics need the package's extra "sim". The robot (157 MB) is downloaded once.

    Examples:
        nemo-cosmos simulate data/robot
        nemo-cosmos simulate data/robot --episodes 500 --workers 8 --seed 7
        nemo-cosmos simulate data/large --size 256x320 --frames 57 --renderer software --json
        nemo-cosmos simulate data/other_robot --embodiment arm_10
        nemo-cosmos simulate data/physics --scene physics --episodes 320
        nemo-cosmos simulate data/rooms --scene rooms --episodes 1000 --frames 17 --size 64x96
        nemo-cosmos simulate data/drives --scene driving --rig three --frames 17 --size 64x96
        nemo-cosmos simulate data/balls --scene physics --scenario bouncing,collision --check
    """
    _check_scene(
        scene,
        scenario=scenario,
        embodiment=embodiment,
        rig=rig,
        layout=layout or None,
        town=town,
        room=room,
        paint=paint,
    )
    size_hw = parse_size(size)
    asked = _Asked(
        out, episodes, frames, fps or FPS[scene], *size_hw, seed, workers, renderer, embodiment
    )
    if scene == "robot":
        job = _robot(asked)
    elif scene == "physics":
        job = _physics(asked, listed(scenario))
    elif scene == "driving":
        job = _driving(asked, listed(rig), layout, town)
    else:
        job = _rooms(asked, room, paint or "patterns")
    look_first(job.checks, check, as_json)
    with show_progress("Rendering", "episodes", "json" if as_json else "people") as update:
        report = job.run(update)
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
        return
    succeeded = getattr(report, "num_succeeded", None)
    tail = "" if succeeded is None else f"; the task succeeded in {succeeded}"
    typer.echo(
        f"{counted(report.num_episodes, 'episode')} in '{report.folder}', {report.num_new} "
        f"of them new ({report.seconds:.0f} s, renderer {report.renderer}){tail}."
    )


def _check_scene(scene: str, **options: object) -> None:
    """Refuse a scene that does not exist, and options of another.

    Args:
        scene: the scene's name.
        options: the options that not all scenes have, by name; None where not given.
    """
    if scene not in FPS:
        raise ConfigError(
            f"There is no scene '{scene}'. The nearest are {nearest_names(scene, FPS)}; all: "
            f"{', '.join(FPS)}."
        )
    for name, value in options.items():
        if value not in (None, []) and scene != OF_SCENE[name]:
            raise ConfigError(
                f"--{name} belongs to '--scene {OF_SCENE[name]}', and the scene is '{scene}'. "
                "Leave it out, or choose that scene."
            )


class _Asked(NamedTuple):
    """What every scene is told."""

    out: Path
    episodes: int
    frames: int
    fps: float
    height: int
    width: int
    seed: int
    workers: int
    renderer: str
    embodiment: str | None


class _Job(NamedTuple):
    """What is looked at first, and then the work."""

    checks: list[Check]
    run: Callable[[Progress], FilmReport]


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _robot(asked: _Asked) -> _Job:
    from post_training.rendering import choose_renderer, film_checks
    from post_training.robotics.episodes import EPISODES
    from post_training.robotics.simulation import SimulationSettings, simulate

    told_in = {} if asked.embodiment is None else {"embodiment": asked.embodiment}
    settings = SimulationSettings(
        asked.frames, asked.fps, asked.height, asked.width, asked.seed, **told_in
    )
    found: list[str] = []  # a renderer is tried in a process of its own, which takes seconds

    def find_renderer() -> str:
        found[:] = [choose_renderer(asked.renderer, _say)]
        return found[0]

    def run(update: Progress) -> FilmReport:
        return simulate(
            asked.out,
            asked.episodes,
            settings,
            workers=asked.workers,
            renderer=found[0],
            progress=update,
            say=_say,
        )

    return _Job(film_checks(EPISODES, asked.out, asked.episodes, settings, find_renderer), run)


def _physics(asked: _Asked, scenarios: tuple[str, ...]) -> _Job:
    from post_training.physics import PHYSICS, SCENARIOS, PhysicsSettings, simulate_physics
    from post_training.physics.generate import check_renderer

    settings = PhysicsSettings(
        asked.frames,
        asked.fps,
        asked.height,
        asked.width,
        asked.seed,
        scenarios or tuple(SCENARIOS),
    )
    film = partial(simulate_physics, renderer=asked.renderer)
    return _of_own_renderer(asked, PHYSICS, settings, check_renderer, film)


def _rooms(asked: _Asked, room: int | None, paint: str) -> _Job:
    from post_training.rooms import ROOMS, RoomSettings, simulate_rooms
    from post_training.rooms.generate import check_renderer

    shape = asked.frames, asked.fps, asked.height, asked.width
    settings = RoomSettings(*shape, asked.seed, room, paint)
    film = partial(simulate_rooms, renderer=asked.renderer)
    return _of_own_renderer(asked, ROOMS, settings, check_renderer, film)


def _driving(asked: _Asked, rigs: tuple[str, ...], has_layout: bool, town: int | None) -> _Job:
    from post_training.driving.recordings import DRIVES
    from post_training.driving.town import DriveSettings, simulate_drives
    from post_training.driving.town.generate import check_renderer

    settings = DriveSettings(
        asked.frames,
        asked.fps,
        asked.height,
        asked.width,
        asked.seed,
        rigs or ("three",),
        has_layout,
        town,
    )
    return _of_own_renderer(asked, DRIVES, settings, check_renderer, simulate_drives)


def _of_own_renderer(
    asked: _Asked,
    kind: Recordings,
    settings: FilmSettings,
    check_renderer: Callable[[str], str],
    film: Callable[..., FilmReport],
) -> _Job:
    """A scene that one renderer of ours draws, so that none has to be tried."""
    from post_training.rendering import film_checks

    def run(update: Progress) -> FilmReport:
        return film(asked.out, asked.episodes, settings, workers=asked.workers, progress=update)

    def find_renderer() -> str:
        return check_renderer(asked.renderer)

    return _Job(film_checks(kind, asked.out, asked.episodes, settings, find_renderer), run)
