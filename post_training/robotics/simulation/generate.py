"""Film many episodes into a folder: in parallel, resumable, the same on every run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.progress import Progress
from nemo_cosmos.storage.outputs import check_output_folder
from post_training.rendering import choose_renderer, film_all
from post_training.robotics.episodes import (
    is_complete,
    read_manifest,
    read_record,
    write_episode,
    write_manifest,
)
from post_training.robotics.simulation.robot import prepare_robot
from post_training.robotics.simulation.studio import SimulationSettings, Studio, episode_key


@dataclass(frozen=True)
class SimulationReport:
    """The result of :func:`simulate`.

    Attributes:
        folder: folder of the episodes.
        num_episodes: number of requested episodes, all of them in the folder.
        num_new: number of episodes made in this run.
        num_succeeded: number of episodes whose task succeeded.
        num_frames: frames of each episode.
        renderer: renderer that drew the new episodes.
        seconds: duration of this run.
    """

    folder: str
    num_episodes: int
    num_new: int
    num_succeeded: int
    num_frames: int
    renderer: str
    seconds: float

    def as_dict(self) -> JsonObject:
        """Return plain data, with the rate of new frames."""
        frames_per_s = self.num_new * self.num_frames / self.seconds if self.seconds else 0.0
        return {**asdict(self), "frames_per_s": round(frames_per_s, 1)}


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
    began_s = time.monotonic()
    settings = settings or SimulationSettings()
    if num_episodes < 1 or workers < 0:
        raise ConfigError(
            f"{num_episodes} episodes by {workers} workers were asked for; expected at least one "
            "episode, and 0 workers or more."
        )
    target = check_output_folder(folder)
    _check_folder(target, settings)
    chosen = choose_renderer(renderer, say)
    missing = [i for i in range(num_episodes) if not is_complete(target, episode_key(i))]
    # Written first, so that a run that is stopped leaves its settings on record.
    write_manifest(target, settings.as_dict(), _complete_keys(target))
    done = num_episodes - len(missing)
    if missing and workers:
        prepare_robot()  # once, or all workers would fetch it at the same time
    filmer = partial(_Filmer, target, settings, chosen)
    for _ in film_all(filmer, missing, workers, chosen):
        done += 1
        if progress:
            progress(done, num_episodes)
    write_manifest(target, settings.as_dict(), _complete_keys(target))
    keys = [episode_key(index) for index in range(num_episodes)]
    succeeded = sum(bool(read_record(target, key).get("success")) for key in keys)
    return SimulationReport(
        folder=str(target),
        num_episodes=num_episodes,
        num_new=len(missing),
        num_succeeded=succeeded,
        num_frames=settings.num_frames,
        renderer=chosen,
        seconds=round(time.monotonic() - began_s, 2),
    )


def _check_folder(folder: Path, settings: SimulationSettings) -> None:
    manifest = read_manifest(folder)
    if manifest and manifest["settings"] != settings.as_dict():
        raise ConfigError(
            f"'{folder}' holds episodes of other settings: {json.dumps(manifest['settings'])}; "
            f"requested were {json.dumps(settings.as_dict())}. Choose another folder, or the same "
            "settings."
        )


def _complete_keys(folder: Path) -> list[str]:
    """All complete episodes in the folder, also those beyond the requested number."""
    keys = sorted(file.stem for file in folder.glob("episode_*.json"))
    return [key for key in keys if is_complete(folder, key)]


class _Filmer:
    """A studio and the folder that it fills."""

    def __init__(self, folder: Path, settings: SimulationSettings, renderer: str) -> None:
        self._folder = folder
        self._studio = Studio(settings, renderer)

    def film(self, index: int) -> None:
        write_episode(self._folder, self._studio.record(index))

    def close(self) -> None:
        self._studio.close()
