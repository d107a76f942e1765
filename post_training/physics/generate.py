"""Film many recordings of scenarios into a folder: in parallel, resumable, the same each time."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nemo_cosmos.controls.camera import CAMERA
from nemo_cosmos.controls.objects import OBJECTS
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import has, require
from nemo_cosmos.progress import Progress
from post_training.physics.studio import Clip, PhysicsSettings, PhysicsStudio, clip_key
from post_training.recordings import Recordings, write_recording
from post_training.rendering import Filmer, FilmReport, fill_folder
from post_training.rendering.raycaster import RayCaster

PHYSICS = Recordings(
    format="nemo_cosmos.physics_clips",
    noun="physics clip",
    suffixes=(OBJECTS.suffix, CAMERA.suffix),
    required=frozenset({"split", "objects"}),
    listed=("key", "split", "task", "caption", "num_frames", "has_panel", "pair"),
)
"""Physics clips in a folder: whether one is complete, its record, and the list of all."""


def simulate_physics(
    folder: str | os.PathLike[str],
    num_episodes: int,
    settings: PhysicsSettings | None = None,
    *,
    workers: int = 1,
    renderer: str = "auto",
    progress: Progress | None = None,
) -> FilmReport:
    """Make the recordings 0 to ``num_episodes - 1`` that the folder lacks.

    Args:
        folder: folder for the recordings; it may already hold some of the same settings.
        num_episodes: number of recordings in the end.
        settings: settings of the recordings.
        workers: number of processes that film at the same time; 0 films in this process.
        renderer: ``auto`` or ``software``: masks need the exact renderer, which is our own.
        progress: called with the number of finished recordings and the number in all.

    Raises:
        ConfigError: a count out of range, another renderer, or the folder holds recordings of
            other settings.
        MissingDependencyError: MuJoCo is not installed.
        StorageFullError: no space left; finished recordings are intact.
    """
    settings = settings or PhysicsSettings()
    check_renderer(renderer)

    def prepare() -> tuple[str, Callable[[], Filmer]]:
        return RayCaster.name, partial(_Filmer, Path(folder), settings)

    return fill_folder(
        PHYSICS, folder, num_episodes, clip_key, settings, prepare, workers, progress
    )


def check_renderer(renderer: str) -> str:
    """Return the renderer of physics clips.

    Raises:
        ConfigError: another one was asked for.
        MissingDependencyError: MuJoCo is not installed.
    """
    if renderer not in ("auto", RayCaster.name):
        raise ConfigError(
            f"The renderer is '{renderer}', but the scenes of 'physics' are drawn by "
            f"'{RayCaster.name}' alone, which knows the object at each pixel. Leave --renderer out."
        )
    if not has("mujoco"):  # importing it here would fix the choice of OpenGL for this process
        require("mujoco")
    return RayCaster.name


def write_clip(folder: str | os.PathLike[str], clip: Clip) -> None:
    """Write the files of a recording, the JSON last.

    Raises:
        StorageFullError: no space left; without its JSON the recording counts as not written.
    """
    video = clip.video
    files = {OBJECTS.suffix: clip.objects, CAMERA.suffix: clip.camera}
    for signal in (OBJECTS, CAMERA):
        signal.check(files[signal.suffix], video.num_frames, f"'{clip.key}'")
    record = {
        "key": clip.key,
        "split": clip.split,
        "caption": clip.caption,
        "fps": video.fps,
        "num_frames": video.num_frames,
        "width": video.width,
        "height": video.height,
        **clip.record,
    }
    write_recording(folder, clip.key, video, files, record)


class _Filmer:
    """A studio and the folder that it fills."""

    def __init__(self, folder: Path, settings: PhysicsSettings) -> None:
        self._folder = folder
        self._studio = PhysicsStudio(settings)

    def film(self, index: int) -> None:
        write_clip(self._folder, self._studio.record(index))

    def close(self) -> None:
        """Do nothing: the renderer holds no resources."""
