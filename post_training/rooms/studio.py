"""The studio: films rooms along drawn paths, with the camera and the depth of each pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.video import Video
from post_training.camera.moves import Matrix, camera_signal
from post_training.rendering import FilmSettings
from post_training.rooms.paths import FOV_X_DEG, KINDS, draw_path
from post_training.rooms.scene import PAINTS, Room, draw_room

CAPTION = "A walk through a painted room with blocks on its floor."
"""The same for all: words that say which way the camera goes would steer without its path."""
_VALIDATION_EVERY = 10
_SUPERSAMPLE = 2


@dataclass(frozen=True)
class RoomSettings(FilmSettings):
    """Settings that, together with its number, determine a recording.

    Attributes:
        room: seed of the one room that all paths lead through; None for a new room each time.
        paint: what walls and blocks are painted with, one of :data:`.scene.PAINTS`.
    """

    num_frames: int = 17
    height: int = 64
    width: int = 96
    room: int | None = None
    paint: str = "patterns"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.paint not in PAINTS:
            raise ConfigError(
                f"The paint of the rooms is '{self.paint}'; expected {' or '.join(PAINTS)}."
            )


@dataclass(frozen=True)
class RoomClip:
    """A film of one path through one room.

    Attributes:
        key: its name, unique within the folder.
        video: T frames.
        camera: the arrays of :data:`nemo_cosmos.controls.camera.CAMERA`.
        depth: the arrays of :data:`nemo_cosmos.controls.depth.SCENE_DEPTH`.
        split: ``train`` or ``val``.
        record: all other entries of the JSON.
    """

    key: str
    video: Video
    camera: Mapping[str, Array]
    depth: Mapping[str, Array]
    split: str
    record: Mapping[str, Any]


def film_room(settings: RoomSettings, index: int) -> RoomClip:
    """Film a recording.

    Args:
        settings: its settings.
        index: its number, which determines room, path and split.
    """
    random = np.random.default_rng([settings.seed, index])
    room, kind = draw_room(random, settings.paint), KINDS[index % len(KINDS)]
    if settings.room is not None:
        room = draw_room(np.random.default_rng(settings.room), settings.paint)
    poses_T44 = draw_path(random, room, kind, settings.num_frames)
    camera = camera_signal(poses_T44, (settings.height, settings.width), FOV_X_DEG)
    pictures = [draw_picture(room, camera, frame) for frame in range(settings.num_frames)]
    is_validation = index % _VALIDATION_EVERY == _VALIDATION_EVERY - 1
    return RoomClip(
        key=room_key(index),
        video=Video(np.stack([picture_HWC for picture_HWC, _ in pictures]), settings.fps),
        camera=camera,
        depth={"depth_m": np.stack([depth_HW for _, depth_HW in pictures])},
        split="val" if is_validation else "train",
        record={
            "source": "simulation",
            "caption_source": "script",
            "task": kind,
            "seed": [settings.seed, index],
        },
    )


def draw_picture(room: Room, camera: Mapping[str, Array], frame: int) -> tuple[Array, Array]:
    """Picture ``(H, W, 3)`` uint8 of a room, and its depth ``(H, W)`` along the axis, in metres.

    Args:
        room: the room.
        camera: the arrays of ``camera.npz``, of a pinhole.
        frame: which of its poses.
    """
    height, width = (int(side) for side in camera["size"])
    pose_44: Matrix = np.asarray(camera["poses"][frame], np.float64)
    grid_hw = height * _SUPERSAMPLE, width * _SUPERSAMPLE
    rows, columns = (np.mgrid[: grid_hw[0], : grid_hw[1]] + 0.5) / _SUPERSAMPLE
    # Rays of length 1 along the axis, so that their length in the room is the depth.
    pixels_N3 = np.stack([columns.ravel(), rows.ravel(), np.ones(rows.size)], axis=1)
    rays_N3 = pixels_N3 @ np.linalg.inv(camera["intrinsics"][frame]).T
    color_N3, depth_N = room.look(pose_44[:3, 3], rays_N3 @ pose_44[:3, :3].T)
    small_HW3 = cv2.resize(
        color_N3.reshape(*grid_hw, 3), (width, height), interpolation=cv2.INTER_AREA
    )
    # The mean of four samples is the depth in their middle, but for pixels on an edge.
    depth_HW = cv2.resize(depth_N.reshape(grid_hw), (width, height), interpolation=cv2.INTER_AREA)
    return np.clip(255 * small_HW3 + 0.5, 0, 255).astype(np.uint8), depth_HW.astype(np.float16)


def room_key(index: int) -> str:
    """Name of a recording."""
    return f"room_{index:06d}"
