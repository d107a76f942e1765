"""``nemo-cosmos trial data-engine``: what is wrong is said before a world is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.cli.main import Exit
from nemo_cosmos.testing.tiny import write_world
from nemo_cosmos.video import Video, encode_video


@pytest.fixture
def words(tmp_path: Path) -> list[object]:
    generator = np.random.default_rng(0)
    for folder, num in (("real", 4), ("held", 2)):
        (tmp_path / folder).mkdir()
        for n in range(num):
            stem = tmp_path / folder / f"{folder}{n}"
            frames = generator.integers(0, 255, (9, 32, 48, 3)).astype(np.uint8)
            encode_video(f"{stem}.mp4", Video(frames, fps=10.0))
            np.save(f"{stem}.action.npy", generator.normal(size=(8, 7)).astype(np.float32))
    world = write_world(tmp_path / "world", controls=("action",))
    places = ["--data", tmp_path / "real", "--held-out", tmp_path / "held"]
    return ["trial", "data-engine", "--model", world, *places, "--out", tmp_path / "out"]


def test_check_says_what_will_be_tried_and_does_nothing(words, run_cli, tmp_path):
    ran = run_cli(*words, "--check", "--json", "--require", "gain.4>0")
    assert ran.code == Exit.DONE and all(row["ok"] for row in json.loads(ran.out))
    assert "4 to learn from, 2 recordings to test on" in ran.out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--require", "gain.8>0"], "'gain.8', which this trial does not compute"),
        (["--sizes", "2,many"], "--sizes is '2,many'"),
        (["--sizes", "4,2"], "expected rising numbers"),
        (["--sizes", "64"], "4 recorded episodes to learn from, and 64 are needed"),
        (["--option", "steps"], "not NAME=VALUE"),
        (["--option", "stepz=2"], "'steps'"),
    ],
)
def test_what_cannot_be_tried_is_refused(words, run_cli, more, message):
    ran = run_cli(*words, *more)
    assert ran.code == Exit.WRONG_USE and message in ran.err
