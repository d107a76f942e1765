"""Inputs that no command makes: real clips, first frames, actions for each direction."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from nemo_cosmos.assets import asset_path
from nemo_cosmos.quickstart.plan import DIRECTIONS, Places
from nemo_cosmos.quickstart.settings import QuickstartSettings
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import Video, decode, encode_video
from nemo_cosmos.video.pictures import png_bytes

REAL_VIDEOS = {
    "bikes": "Cyclists and cars on a city street.",
    "bigbuckbunny": "A cartoon rabbit on a green meadow.",
}
"""Clips that a package ships (asset names after ``video_``) and their captions."""

_SPEED_M_PER_FRAME = 0.0125
_ACTION_PER_M = 20.0
# Translations are in the gripper's frame. It points down, so its y and z axes are flipped.
_GRIPPER_FROM_WORLD = np.array([1.0, -1.0, -1.0])
_WORLD_DIRECTIONS = {
    "left": (-1.0, 0.0, 0.0),
    "right": (1.0, 0.0, 0.0),
    "up": (0.0, 0.0, 1.0),
    "down": (0.0, 0.0, -1.0),
}


def place_real_videos(folder: Path) -> None:
    """Put the real clips into a folder, each with a JSON that holds its caption."""
    for name, caption in REAL_VIDEOS.items():
        with atomic_path(folder / f"{name}.mp4") as temporary:
            shutil.copyfile(asset_path(f"video_{name}"), temporary)
        with atomic_path(folder / f"{name}.json") as temporary:
            temporary.write_text(json.dumps({"caption": caption}), encoding="utf-8")


def held_out_captions(places: Places) -> dict[str, str]:
    """Captions of the held-out episodes by their keys, in order."""
    records = sorted(places.held_out.glob("episode_*.json"))
    return {
        path.stem: str(json.loads(path.read_text(encoding="utf-8"))["caption"]) for path in records
    }


def place_held_out(places: Places, settings: QuickstartSettings) -> None:
    """Cut one window out of each held-out episode: first frame, ground truth and actions."""
    for key in held_out_captions(places):
        video = decode(places.held_out / f"{key}.mp4")
        window = video.frames_THWC[: settings.window_frames]
        with atomic_path(places.starts / f"{key}.png") as temporary:
            temporary.write_bytes(png_bytes(window[0]))
        encode_video(places.truth / f"{key}.mp4", Video(window, fps=video.fps), crf=8)
        actions = np.load(places.held_out / f"{key}.action.npy", allow_pickle=False)
        _write_actions(places.true_actions / f"{key}.npy", actions[: settings.window_frames - 1])


def place_direction_actions(places: Places, settings: QuickstartSettings) -> None:
    """Write actions that move the open gripper straight in each direction."""
    for direction in DIRECTIONS:
        step = np.array(_WORLD_DIRECTIONS[direction]) * _SPEED_M_PER_FRAME * _ACTION_PER_M
        action = np.concatenate([step * _GRIPPER_FROM_WORLD, np.zeros(3), np.ones(1)])
        actions = np.tile(action, (settings.window_frames - 1, 1))
        _write_actions(places.direction_actions / f"{direction}.npy", actions)


def _write_actions(path: Path, actions: np.ndarray) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, actions.astype(np.float32))
