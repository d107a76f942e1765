"""What the commands need besides each other's outputs: real clips, first frames, told actions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from nemo_cosmos.assets import asset_path
from nemo_cosmos.quickstart.pictures import png_bytes
from nemo_cosmos.quickstart.plan import TOLD, Layout
from nemo_cosmos.quickstart.settings import QuickstartSettings
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.video import Video, decode, encode_video

REAL_VIDEOS = {
    "bikes": "Cyclists and cars on a city street.",
    "bigbuckbunny": "A cartoon rabbit on a green meadow.",
}
"""Clips that a package ships (asset names after ``video_``), with what they show."""

_TOLD_SPEED_M_PER_FRAME = 0.0125
_ACTION_PER_M = 20.0
# Translations are seen from the gripper, which points down: its y and z are turned round.
_GRIPPER_FROM_WORLD = np.array([1.0, -1.0, -1.0])
_WORLD_DIRECTIONS = {
    "left": (-1.0, 0.0, 0.0),
    "right": (1.0, 0.0, 0.0),
    "up": (0.0, 0.0, 1.0),
    "down": (0.0, 0.0, -1.0),
}


def place_real_videos(folder: Path) -> None:
    """Put the real clips into a folder, each with a JSON that says what it shows."""
    for name, caption in REAL_VIDEOS.items():
        with atomic_path(folder / f"{name}.mp4") as temporary:
            shutil.copyfile(asset_path(f"video_{name}"), temporary)
        with atomic_path(folder / f"{name}.json") as temporary:
            temporary.write_text(json.dumps({"caption": caption}))


def held_out_captions(layout: Layout) -> dict[str, str]:
    """Captions of the held-out episodes by their keys, in order."""
    records = sorted(layout.held_out.glob("episode_*.json"))
    return {path.stem: str(json.loads(path.read_text())["caption"]) for path in records}


def place_held_out(layout: Layout, settings: QuickstartSettings) -> None:
    """Cut what is to be predicted out of the held-out episodes: first frames, truth and actions.

    The actions of each episode are cut to the window in place of the whole episode's.
    """
    for key in held_out_captions(layout):
        video = decode(layout.held_out / f"{key}.mp4")
        window = video.frames_THWC[: settings.window_frames]
        with atomic_path(layout.starts / f"{key}.png") as temporary:
            temporary.write_bytes(png_bytes(window[0]))
        encode_video(layout.truth / f"{key}.mp4", Video(window, fps=video.fps), crf=8)
        actions = np.load(layout.held_out / f"{key}.action.npy", allow_pickle=False)
        _write_actions(layout.true_actions / f"{key}.npy", actions[: settings.window_frames - 1])


def place_told_actions(layout: Layout, settings: QuickstartSettings) -> None:
    """Write actions that move the open gripper straight into each direction."""
    for direction in TOLD:
        step = np.array(_WORLD_DIRECTIONS[direction]) * _TOLD_SPEED_M_PER_FRAME * _ACTION_PER_M
        action = np.concatenate([step * _GRIPPER_FROM_WORLD, np.zeros(3), np.ones(1)])
        actions = np.tile(action, (settings.window_frames - 1, 1))
        _write_actions(layout.told_actions / f"{direction}.npy", actions)


def _write_actions(path: Path, actions: np.ndarray) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, actions.astype(np.float32))
