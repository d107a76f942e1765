"""Film many episodes into a folder: in parallel, resumable, the same on every run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from nemo_cosmos.controls.embodiment import find_embodiment
from nemo_cosmos.progress import Progress
from post_training.rendering import Filmer, FilmReport, choose_renderer, fill_folder
from post_training.robotics.episodes import EPISODES, write_episode
from post_training.robotics.simulation.robot import prepare_robot
from post_training.robotics.simulation.studio import SimulationSettings, Studio, episode_key


@dataclass(frozen=True)
class SimulationReport(FilmReport):
    """The result of :func:`simulate`.

    Attributes:
        num_succeeded: number of episodes whose task succeeded.
    """

    num_succeeded: int = 0


def simulate(
    folder: str | os.PathLike[str],
    num_episodes: int,
    settings: SimulationSettings | None = None,
    *,
    workers: int = 1,
    renderer: str = "auto",
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
) -> SimulationReport:
    """Make the episodes 0 to ``num_episodes - 1`` that the folder lacks.

    Args:
        folder: folder for the episodes; it may already hold episodes of the same settings.
        num_episodes: number of episodes in the end.
        settings: settings of the episodes.
        workers: number of processes that film at the same time; 0 films in this process.
        renderer: one of ``auto``, ``egl``, ``osmesa``, ``software``.
        progress: called with the number of finished episodes and the number in all.
        say: called with a paragraph if OpenGL is unavailable.

    Raises:
        ConfigError: a count out of range, or the folder holds episodes of other settings.
        MissingDependencyError: MuJoCo or the renderer asked for is not installed.
        AssetError: the robot's files cannot be fetched.
        StorageFullError: no space left; finished episodes are intact.
    """
    settings = settings or SimulationSettings()

    def open_all() -> tuple[str, Callable[[], Filmer]]:
        chosen = choose_renderer(renderer, say)
        if workers:
            prepare_robot()  # once, or all workers would fetch it at the same time
        return chosen, partial(_Filmer, Path(folder), settings, chosen)

    report = fill_folder(
        EPISODES, folder, num_episodes, episode_key, settings, open_all, workers, progress
    )
    keys = [episode_key(index) for index in range(num_episodes)]
    succeeded = sum(bool(EPISODES.read_record(folder, key).get("success")) for key in keys)
    return SimulationReport(**asdict(report), num_succeeded=succeeded)


class _Filmer:
    """A studio and the folder that it fills."""

    def __init__(self, folder: Path, settings: SimulationSettings, renderer: str) -> None:
        self._folder = folder
        self._studio = Studio(settings, renderer)
        self._told_in = find_embodiment(settings.embodiment)

    def film(self, index: int) -> None:
        write_episode(self._folder, self._studio.record(index), self._told_in)

    def close(self) -> None:
        self._studio.close()
