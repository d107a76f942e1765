"""``nemo-cosmos trial``: checks, refusals, and a trial from the command line to its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nemo_cosmos.cli.main import Exit
from nemo_cosmos.errors import AssetError
from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE
from nemo_cosmos.platform import has
from nemo_cosmos.site import SITE_VARIABLE
from nemo_cosmos.testing.tiny import write_world
from post_training.rendering import prepare_environment
from post_training.robotics.simulation.robot import prepare_robot
from post_training.robotics.usefulness import seeing, trial

FAST = ["--episodes", "2", "--chunks", "1", "--steps", "1", "--renderer", "software"]
FAST += ["--disable-guard", "face_blur"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"), controls=["action"])


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SITE_VARIABLE, str(tmp_path / "site.txt"))
    monkeypatch.setenv(AUDIT_VARIABLE, str(tmp_path / "audit.jsonl"))
    # Few pictures are enough where nothing is judged by what is seen.
    monkeypatch.setattr(seeing, "NUM_KNOWN", 12)
    monkeypatch.setattr(seeing, "cache_dir", lambda: tmp_path / "cache")


@pytest.fixture
def _robot() -> None:
    if not has("mujoco"):
        pytest.skip("MuJoCo is not installed (extra 'sim')")
    prepare_environment("software")
    try:
        prepare_robot()
    except AssetError as error:
        pytest.skip(f"the robot's files cannot be fetched: {error}")


def test_check_looks_at_everything_and_stops(run_cli, world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = run_cli("trial", "ranking", "--model", world, "--out", out, "--check", "--json")
    assert ran.code == Exit.DONE
    assert {row["check"]: row["ok"] for row in ran.json} == dict.fromkeys(
        ("output", "world", "weights"), True
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--require", "psnr>3"], "does not compute"),
        (["--episodes", "1"], "--episodes"),
        (["--seed", "-1"], "--seed"),
        (["--require", "rank_correlation"], "not NAME>NUMBER"),
    ],
)
def test_refuses_wrong_use(run_cli, world, tmp_path, words, message) -> None:
    ran = run_cli("trial", "ranking", "--model", world, "--out", tmp_path / "out", *words)
    assert ran.code == Exit.WRONG_USE
    assert message in ran.err


def test_refuses_a_world_without_actions(run_cli, tmp_path: Path) -> None:
    plain = write_world(tmp_path / "plain")
    ran = run_cli("trial", "ranking", "--model", plain, "--out", tmp_path / "out")
    assert ran.code == Exit.WRONG_USE
    assert "expected the control 'action' alone" in ran.err


def test_refuses_a_world_of_another_robot(run_cli, world, tmp_path, _robot) -> None:
    ran = run_cli("trial", "ranking", "--model", world, "--out", tmp_path / "out", *FAST)
    assert ran.code == Exit.WRONG_USE
    assert "does not show this robot" in ran.err


def test_a_ranking_from_the_command_line_to_its_report(
    run_cli, world, tmp_path, monkeypatch, _robot
) -> None:
    monkeypatch.setattr(trial, "check_shown", lambda *_: None)  # nothing was trained here
    out = tmp_path / "out"
    words = ["trial", "ranking", "--model", world, "--out", out, *FAST]
    ran = run_cli(*words, "--json", "--require", "rank_correlation>0.99")
    assert ran.code == Exit.REFUSED
    assert "rank_correlation > 0.99" in ran.err
    record = json.loads((out / "ranking.json").read_text("utf-8"))
    assert ran.json == record
    assert record["inputs"]["model"]["weights_sha256"]
    assert len(list((out / "pictures").glob("*-world.png"))) == len(record["rows"]) == 13
    assert (out / "ranking.png").read_bytes().startswith(b"\x89PNG")
    before = (out / "pictures/expert-world.png").stat().st_mtime_ns
    again = run_cli(*words)
    assert again.code == Exit.DONE
    assert "expert" in again.out
    assert (out / "pictures/expert-world.png").stat().st_mtime_ns == before, "it is not made again"


def test_plans_from_the_command_line_to_their_report(
    run_cli, world, tmp_path, monkeypatch, _robot
) -> None:
    monkeypatch.setattr(trial, "check_shown", lambda *_: None)  # nothing was trained here
    out = tmp_path / "out"
    words = ["trial", "planning", "--model", world, "--out", out, "--episodes", "2"]
    words += ["--plans", "1", "--candidates", "2", "--iterations", "1", "--steps", "1"]
    words += ["--renderer", "software", "--goal", "picture"]
    ran = run_cli(*words, "--json")
    assert ran.code == Exit.DONE
    record = json.loads((out / "planning.json").read_text("utf-8"))
    assert ran.json == record
    assert record["inputs"]["goal"] == "picture"
    assert record["inputs"]["budget"]["candidates"] == 2
    assert record["inputs"]["model"]["weights_sha256"]
    assert {"success_world", "success_simulator", "success_random"} <= set(record["scores"])
    pictures = sorted(file.name for file in (out / "pictures").iterdir())
    assert pictures[:3] == ["000-random.png", "000-simulator.png", "000-world.png"]
    assert (out / "planning.png").read_bytes().startswith(b"\x89PNG")
    assert run_cli(*words, "--require", "success_gain>0.5").code == Exit.REFUSED


def test_refuses_a_goal_of_another_kind(run_cli, world, tmp_path) -> None:
    words = ["trial", "planning", "--model", world, "--out", tmp_path / "out"]
    ran = run_cli(*words, "--goal", "words")
    assert ran.code == Exit.WRONG_USE
    assert "pose or picture" in ran.err
