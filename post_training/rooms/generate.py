"""Film many rooms into a folder: in parallel, resumable, the same each time."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nemo_cosmos.controls.camera import CAMERA
from nemo_cosmos.controls.depth import SCENE_DEPTH
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.progress import Progress
from post_training.recordings import Recordings, write_recording
from post_training.rendering import Filmer, FilmReport, fill_folder
from post_training.rooms.studio import CAPTION, RoomClip, RoomSettings, film_room, room_key

ROOMS = Recordings(
    format="nemo_cosmos.room_clips",
    noun="room clip",
    suffixes=(CAMERA.suffix, SCENE_DEPTH.suffix),
    required=frozenset({"split", "task"}),
    listed=("key", "split", "task", "caption", "num_frames"),
)
"""Clips of rooms in a folder: whether one is complete, its record, and the list of all."""
RENDERER = "software"


def simulate_rooms(
    folder: str | os.PathLike[str],
    num_episodes: int,
    settings: RoomSettings | None = None,
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
        renderer: ``auto`` or ``software``, which needs no library.
        progress: called with the number of finished recordings and the number in all.

    Raises:
        ConfigError: a count out of range, another renderer, or the folder holds recordings of
            other settings.
        StorageFullError: no space left; finished recordings are intact.
    """
    settings = settings or RoomSettings()
    check_renderer(renderer)

    def prepare() -> tuple[str, Callable[[], Filmer]]:
        return RENDERER, partial(_Filmer, Path(folder), settings)

    return fill_folder(ROOMS, folder, num_episodes, room_key, settings, prepare, workers, progress)


def check_renderer(renderer: str) -> str:
    """Return the renderer of rooms.

    Raises:
        ConfigError: another one was asked for.
    """
    if renderer not in ("auto", RENDERER):
        raise ConfigError(
            f"The renderer is '{renderer}', but the scene 'rooms' is drawn by '{RENDERER}' alone, "
            "which knows the depth of each pixel. Leave --renderer out."
        )
    return RENDERER


def write_clip(folder: str | os.PathLike[str], clip: RoomClip) -> None:
    """Write the files of a recording, the JSON last.

    Raises:
        StorageFullError: no space left; without its JSON the recording counts as not written.
    """
    video = clip.video
    files = {CAMERA.suffix: clip.camera, SCENE_DEPTH.suffix: clip.depth}
    for signal in (CAMERA, SCENE_DEPTH):
        signal.check(files[signal.suffix], video.num_frames, f"'{clip.key}'")
    record = {
        "key": clip.key,
        "split": clip.split,
        "caption": CAPTION,
        "fps": video.fps,
        "num_frames": video.num_frames,
        "width": video.width,
        "height": video.height,
        **clip.record,
    }
    write_recording(folder, clip.key, video, files, record)


class _Filmer:
    """The settings of recordings and the folder that they fill."""

    def __init__(self, folder: Path, settings: RoomSettings) -> None:
        self._folder = folder
        self._settings = settings

    def film(self, index: int) -> None:
        write_clip(self._folder, film_room(self._settings, index))

    def close(self) -> None:
        """Do nothing: the renderer holds no resources."""
