"""A camera's path from the command line: a file that models take, and a picture beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.cli.main import Exit
from nemo_cosmos.controls import CAMERA


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_keys_become_a_path_with_the_lens_of_another(run_cli, tmp_path):
    first = run_cli("camera", "move", "one.camera.npz", "--move", "tilt:9", "--fov", "90")
    assert first.code == Exit.DONE and "a camera of 33 frames" in first.out
    one = CAMERA.values(tmp_path / "one.camera.npz")
    assert one["intrinsics"][0, 0, 0] == pytest.approx(64), "half the width at 90 degrees"
    words = ["--keys", "w4 .", "--step-m", "0.5", "--frames", "7", "--like", "one.camera.npz"]
    assert run_cli("camera", "move", "new/two.npz", *words).code == Exit.DONE
    two = CAMERA.values(tmp_path / "new" / "two.npz")
    CAMERA.check(two, 7)
    np.testing.assert_array_equal(two["intrinsics"][6], one["intrinsics"][0])
    np.testing.assert_allclose(two["poses"][:, 2, 3], [0, 0.5, 1, 1.5, 2, 2, 2])
    assert Path("new/two.png").read_bytes().startswith(b"\x89PNG")


def test_any_path_is_drawn_and_a_damaged_one_is_refused(run_cli, tmp_path):
    run_cli("camera", "move", "a.camera.npz", "--move", "orbit:60")
    shown = run_cli("camera", "show", "a.camera.npz", "--picture", "seen/a.png")
    assert shown.code == Exit.DONE and Path("seen/a.png").is_file()
    values = dict(CAMERA.values(tmp_path / "a.camera.npz"))
    np.savez("bad.camera.npz", **{**values, "poses": 2 * values["poses"]})
    refused = run_cli("camera", "show", "bad.camera.npz")
    assert refused.code == Exit.WRONG_USE and "holds no rotation" in refused.err
    np.savez("worse.camera.npz", poses=np.array(3.0))
    assert run_cli("camera", "show", "worse.camera.npz").code == Exit.WRONG_USE


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "made of --move or of --keys"),
        (["--move", "pan:3", "--keys", "w"], "made of --move or of --keys"),
        (["--move", "fly:3"], "no move 'fly'"),
        (["--keys", "w", "--fov", "179"], "fov"),
        (["--keys", "w", "--like", "none.npz"], "no file 'none.npz'"),
        (["--keys", "w9", "--frames", "4"], "take 9 steps"),
    ],
)
def test_what_makes_no_path_is_refused(run_cli, tmp_path, words, message):
    ran = run_cli("camera", "move", "x.camera.npz", *words)
    assert ran.code == Exit.WRONG_USE and message in ran.err
    assert not list(tmp_path.iterdir())


def test_a_path_is_an_npz(run_cli):
    ran = run_cli("camera", "move", "x.npy", "--keys", "w")
    assert ran.code == Exit.WRONG_USE and "no .npz file" in ran.err
