from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nemo_cosmos.cli.kit.options import parse_size
from nemo_cosmos.errors import AssetError, WrongSizeError
from nemo_cosmos.platform import has


def test_simulate_prints_what_it_made(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    if not has("mujoco"):
        pytest.skip("MuJoCo is not installed (extra 'sim')")
    from post_training.robotics.simulation.robot import prepare_robot

    try:
        prepare_robot()
    except AssetError as error:
        pytest.skip(f"the robot's files cannot be fetched: {error}")
    words = ["simulate", tmp_path / "robot", "--episodes", 1, "--frames", 3]
    words += ["--size", "32x48", "--workers", 0, "--renderer", "software"]
    report = run_cli(*words, "--json").json
    assert (report["num_episodes"], report["num_new"]) == (1, 1)
    assert report["renderer"] == "software"
    assert "1 episode in" in run_cli(*words).out


@pytest.mark.parametrize("text", ["96", "96x", "axb", "96x128x3"])
def test_a_strange_size_is_refused(text: str) -> None:
    with pytest.raises(WrongSizeError, match="HEIGHTxWIDTH"):
        parse_size(text)


def test_size_is_height_by_width() -> None:
    assert parse_size("96X128") == (96, 128)


@pytest.mark.parametrize("out", ["file/robot", "file", "s3:/bucket/robot", "x" * 300])
def test_a_folder_that_cannot_be_written_is_known_before_the_first_episode(
    run_cli, tmp_path, monkeypatch, out
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    ran = run_cli("simulate", out, "--episodes", 1)
    assert ran.code == 2 and "Error: " in ran.err and ".tmp-" not in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_physics_scene_is_looked_at_first_and_then_made(tmp_path, run_cli):
    if not has("mujoco"):
        pytest.skip("MuJoCo is not installed (extra 'sim')")
    words = ["simulate", tmp_path / "physics", "--scene", "physics", "--episodes", 1]
    words += ["--frames", 3, "--size", "32x48", "--workers", 0, "--scenario", "bouncing"]
    checks = {row["check"]: row for row in run_cli(*words, "--check", "--json").json}
    assert list(checks) == ["output", "episodes", "renderer", "room"]
    assert all(row["ok"] for row in checks.values())
    assert not (tmp_path / "physics").exists()
    report = run_cli(*words, "--json").json
    assert (report["num_new"], report["num_frames"]) == (1, 3)
    assert "num_succeeded" not in report
    ran = run_cli(*words, "--frames", 4, "--check", "--json")
    assert ran.code == 2
    assert {row["check"]: row["ok"] for row in ran.json}["episodes"] is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scene", "fysics"], "no scene 'fysics'.*physics"),
        (["--scenario", "rolling"], "the scene is.*'robot'"),
        (["--scene", "physics", "--scenario", "rollin"], "no scenario 'rollin'.*rolling"),
        (["--scene", "physics", "--renderer", "egl"], "Leave --renderer out"),
    ],
)
def test_a_scene_that_does_not_exist_is_refused_before_anything_is_written(
    run_cli, tmp_path, words, message
):
    ran = run_cli("simulate", tmp_path / "out", *words)
    assert ran.code == 2
    assert re.search(message, " ".join(ran.err.split()))
    assert not (tmp_path / "out").exists()
