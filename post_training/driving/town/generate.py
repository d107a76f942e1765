"""Film many drives through towns into a folder: in parallel, resumable, the same on every run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nemo_cosmos.controls.rig import camera_of
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.progress import Progress
from post_training.driving.recordings import DRIVES, DriveRecording, write_drive
from post_training.driving.rigs import CameraRig, find_rig
from post_training.driving.town.drives import Drive, draw_drive, is_on_street
from post_training.driving.town.eye import Eye
from post_training.driving.town.layout import draw_layout
from post_training.driving.town.plan import Town, plan_town
from post_training.rendering import Filmer, FilmReport, FilmSettings, fill_folder

RENDERER = "software"
_VALIDATION_EVERY = 10
_MAX_TRIES = 50


@dataclass(frozen=True)
class DriveSettings(FilmSettings):
    """Settings that, together with its number, determine a drive.

    Attributes:
        rigs: rigs of cameras, which take turns: names of ``conf/rigs.yaml`` or ``FILE.yaml:NAME``.
        has_layout: whether to draw the layout videos as well.
        town: seed of the one town that all drives lead through; None for a new town each time.
    """

    num_frames: int = 17
    height: int = 64
    width: int = 96
    rigs: tuple[str, ...] = ("three",)
    has_layout: bool = False
    town: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rigs:
            raise ConfigError("There is no rig; expected at least one, such as 'three'.")
        for name in self.rigs:
            find_rig(name)  # an unknown one is refused


class DriveStudio:
    """Films drives of the same settings; each depends only on its number.

    Args:
        settings: settings of the drives.
    """

    def __init__(self, settings: DriveSettings | None = None) -> None:
        self.settings = settings or DriveSettings()
        self._rigs = [find_rig(name) for name in self.settings.rigs]

    def record(self, index: int) -> DriveRecording:
        """Film a drive.

        Args:
            index: its number, which determines town, path, rig and split.
        """
        random = np.random.default_rng([self.settings.seed, index])
        of_town = (
            random if self.settings.town is None else np.random.default_rng(self.settings.town)
        )
        town, drive = plan_town(of_town), self._draw(random)
        rig = self._rigs[index % len(self._rigs)]
        views, layouts, depths = self.film(town, drive, rig)
        is_held_out = index % _VALIDATION_EVERY == _VALIDATION_EVERY - 1
        return DriveRecording(
            key=drive_key(index),
            views=views,
            fps=self.settings.fps,
            trajectory_T3=drive.trajectory,
            rig=rig.signal(self.settings.height, self.settings.width),
            # What the car does is for the path to say, or a model would learn it from the words.
            caption=f"A car drives through a town of {town.style} houses {town.mood}.",
            split="val" if is_held_out else "train",
            layouts=layouts if self.settings.has_layout else {},
            depths=depths,
            record={
                "source": "simulation",
                "caption_source": "script",
                "task": drive.words,
                "rig": rig.name,
                "seed": [self.settings.seed, index],
            },
        )

    def film(
        self, town: Town, drive: Drive, rig: CameraRig
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Pictures, layouts and depths of each view.

        Args:
            town: where the car drives.
            drive: how.
            rig: its cameras.
        """
        size = self.settings.height, self.settings.width
        values = rig.signal(*size)
        views, layouts, depths = {}, {}, {}
        for number, view in enumerate(rig.views):
            still = [camera_of(values, number, pose_44[None]) for pose_44 in drive.vehicle_T44]
            eye = Eye(still[0], *size)
            sights = [eye.look(town, camera["poses"][0]) for camera in still]
            views[view] = np.stack([sight.picture_HWC for sight in sights])
            depths[view] = np.stack([sight.depth_HW for sight in sights])
            if self.settings.has_layout:
                layouts[view] = np.stack([draw_layout(town, camera, *size) for camera in still])
        return views, layouts, depths

    def _draw(self, random: np.random.Generator) -> Drive:
        """A drive that stays on the street."""
        for _ in range(_MAX_TRIES):
            drive = draw_drive(random, self.settings.num_frames, self.settings.fps)
            if is_on_street(drive.vehicle_T44):
                return drive
        raise ConfigError(
            f"No drive of {self.settings.num_frames} frames at {self.settings.fps:g} frames/s "
            "stays on the street; drives take a few seconds. Film fewer frames."
        )


def simulate_drives(
    folder: str | os.PathLike[str],
    num_episodes: int,
    settings: DriveSettings | None = None,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> FilmReport:
    """Make the drives 0 to ``num_episodes - 1`` that the folder lacks.

    Args:
        folder: folder for the drives; it may already hold some of the same settings.
        num_episodes: number of drives in the end.
        settings: settings of the drives.
        workers: number of processes that film at the same time; 0 films in this process.
        progress: called with the number of finished drives and the number in all.

    Raises:
        ConfigError: a count out of range, an unknown rig, or the folder holds drives of other
            settings.
        StorageFullError: no space left; finished drives are intact.
    """
    settings = settings or DriveSettings()

    def prepare() -> tuple[str, Callable[[], Filmer]]:
        return RENDERER, partial(_Filmer, Path(folder), settings)

    return fill_folder(
        DRIVES, folder, num_episodes, drive_key, settings, prepare, workers, progress
    )


def check_renderer(renderer: str) -> str:
    """Return the renderer of drives.

    Raises:
        ConfigError: another one was asked for.
    """
    if renderer not in ("auto", RENDERER):
        raise ConfigError(
            f"The renderer is '{renderer}', but the scene 'driving' is drawn by '{RENDERER}' "
            "alone. Leave --renderer out."
        )
    return RENDERER


def drive_key(index: int) -> str:
    """Name of a drive."""
    return f"drive_{index:06d}"


class _Filmer:
    """A studio and the folder that it fills."""

    def __init__(self, folder: Path, settings: DriveSettings) -> None:
        self._folder = folder
        self._studio = DriveStudio(settings)

    def film(self, index: int) -> None:
        write_drive(self._folder, self._studio.record(index))

    def close(self) -> None:
        """Do nothing: the renderer holds no resources."""
