"""From a folder of synchronous videos to shards, as a person types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nemo_cosmos.cli.main import Exit
from nemo_cosmos.controls import read_signal
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.video import Video, encode_video

Run = Callable[..., Any]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three cameras of six moments, and the car's path."""
    folder = tmp_path / "clip"
    folder.mkdir()
    for number, view in enumerate(("front", "left", "right")):
        frames = np.full((6, 32, 48, 3), 60 * number, np.uint8)
        encode_video(folder / f"{view}.mp4", Video(frames, 10.0))
    np.save(folder / "ego.npy", np.linspace([0, 0, 0], [3, 0.2, 0], 6))
    return folder


def convert(folder: Path, out: Path, **changes: Any) -> list[Any]:
    asked = {"--view": "front,left,right", "--calibration": "three", **changes}
    return ["convert", "driving", folder, out, *(word for pair in asked.items() for word in pair)]


def test_a_folder_of_videos_becomes_drives_and_shards(
    clip: Path, tmp_path: Path, run_cli: Run
) -> None:
    drives, shards = tmp_path / "drives", tmp_path / "shards"
    words = convert(clip, drives, **{"--trajectory": clip / "ego.npy", "--drive-frames": 3})
    report = run_cli(*words, "--json").json
    assert report["num_converted"] == 2 and (drives / "manifest.json").exists()
    (first, second) = (json.loads(file.read_text()) for file in sorted(drives.glob("*0?.json")))
    assert first["views"] == second["views"] == ["front", "left", "right"]
    assert read_signal(drives / f"{second['key']}.trajectory.npy").shape == (3, 3)
    ran = run_cli("dataset", "shard", drives, shards)
    assert ran.code == Exit.DONE and "front, left, right" in ran.out
    assert [sample.record.views for sample in read_samples(shards)] == [
        ("front", "left", "right")
    ] * 2
    again = run_cli("dataset", "shard", drives, shards)
    assert again.code == Exit.WRONG_USE and "is not empty" in again.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--view": "front,roof"}, "roof"),
        ({"--view": "front,front"}, "names 'front' twice"),
        ({"--calibration": "four"}, "no rig 'four'"),
        ({"--view": "front,rear", "--calibration": "five"}, "rear"),
        ({"--mount": "1,2"}, "expected X,Y,Z"),
        ({"--frames": "0-3"}, "expected FIRST:END"),
        ({"--frames": "2:60"}, "60"),
        ({"--trajectory": "short.npy"}, "5 rows"),
        ({"--trajectory": "hole.npy"}, "NaN or infinity in row 3"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    clip: Path, tmp_path: Path, run_cli: Run, changes: dict[str, str], message: str
) -> None:
    path = np.load(clip / "ego.npy")
    np.save(clip / "short.npy", path[:5])
    path[3, 1] = np.nan
    np.save(clip / "hole.npy", path)
    changes = {k: str(clip / v) if v.endswith(".npy") else v for k, v in changes.items()}
    ran = run_cli(*convert(clip, tmp_path / "drives", **changes))
    assert ran.code == Exit.WRONG_USE and "Traceback" not in ran.err
    words = " ".join(ran.err.split())
    assert message in words
    assert not (tmp_path / "drives").exists()


def test_drives_lead_through_one_town_where_it_is_named(tmp_path: Path, run_cli: Run) -> None:
    size = ["--scene", "driving", "--frames", 2, "--size", "32x48", "--workers", 0]
    captions = []
    for seed in (1, 2, 3):
        words = ["simulate", tmp_path / str(seed), *size, "--episodes", 1, "--seed", seed]
        assert run_cli(*words, "--town", 14).code == Exit.DONE
        (record,) = (tmp_path / str(seed)).glob("drive_*0.json")
        captions.append(json.loads(record.read_text())["caption"])
    assert set(captions) == {"A car drives through a town of colourful houses on a clear day."}
    ran = run_cli("simulate", tmp_path / "x", "--scene", "rooms", "--town", 1)
    assert ran.code == Exit.WRONG_USE and "--town belongs to '--scene driving'" in ran.err
