"""Faults of camera data are found where the data show them, and asked for where they do not."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from nemo_cosmos.cli.main import app
from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.video import Video
from post_training.camera.inspection import holds_cameras, inspect_cameras
from post_training.camera.moves import Move, camera_path, camera_signal
from post_training.camera.scenes import OPENGL_TO_OPENCV
from post_training.recordings import write_recording
from post_training.rooms.generate import write_clip
from post_training.rooms.studio import RoomSettings, film_room

SIZE, FOV_DEG, NUM_FRAMES = (96, 128), 60.0, 5


@pytest.fixture(scope="module")
def filmed():
    """A turn and a nod before a distant speckled wall, which fit one way of writing axes only."""
    poses = camera_path([Move({"pan": 14.0, "tilt": 9.0, "dolly": 0.3})], NUM_FRAMES)
    camera = camera_signal(poses, SIZE, FOV_DEG)
    speckles = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    wall_HWC = cv2.resize(speckles, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    lens_33 = camera["intrinsics"][0]
    to_wall_33 = np.array([[1, 0, 320 - 64], [0, 1, 240 - 48], [0, 0, 1]]) @ lens_33
    frames = [
        cv2.warpPerspective(
            wall_HWC,
            np.linalg.inv(to_wall_33 @ pose_44[:3, :3] @ np.linalg.inv(lens_33)),
            SIZE[::-1],
        )
        for pose_44 in poses
    ]
    return Video(np.stack(frames), 10.0), camera


def write(folder, filmed, poses=None, key="a", **record):
    video, camera = filmed
    files = {"camera.npz": {**camera, **({} if poses is None else {"poses": poses})}}
    told = {"key": key, "fps": 10.0, "num_frames": NUM_FRAMES, **record}
    folder.mkdir(exist_ok=True)
    write_recording(folder, key, video, files, told)
    return folder


def finding(report, fault):
    (found,) = [one for one in report.findings if one.fault == fault]
    return found


def test_good_cameras_have_no_fault(tmp_path, filmed):
    report = inspect_cameras(write(tmp_path, filmed))
    assert [one.status for one in report.findings] == ["ok"] * 4, report.findings
    assert (report.num_recordings, report.num_frames) == (1, NUM_FRAMES)
    by_name = {one.name: one for one in report.numbers}
    assert by_name["turn"].median == pytest.approx(16.6, abs=0.3)
    assert by_name["way"].most == pytest.approx(0.3, rel=0.01)
    assert by_name["angle of view"].least == pytest.approx(FOV_DEG)
    assert "unit_m: 0.3" in finding(report, "units").fix


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        (lambda poses: poses @ OPENGL_TO_OPENCV, "These axes are OpenGL's"),
        (np.linalg.inv, "These are world to camera"),
    ],
)
def test_other_axes_are_seen_in_the_pictures(tmp_path, filmed, change, fix):
    folder = write(tmp_path, filmed, change(filmed[1]["poses"]))
    axes = finding(inspect_cameras(folder), "axes")
    assert axes.status == "found" and fix in axes.fix
    assert not inspect_cameras(folder, with_video=False).faults


@pytest.mark.parametrize(
    ("scale", "status", "words"),
    [
        (100, "found", "--units cm"),
        (5000, "found", "--units mm"),
        (0.005, "ask", "Leave unit_m out"),
    ],
)
def test_units_are_guessed_from_the_speed(tmp_path, filmed, scale, status, words):
    poses = filmed[1]["poses"].copy()
    poses[:, :3, 3] *= scale * 1.5
    units = finding(inspect_cameras(write(tmp_path, filmed, poses), with_video=False), "units")
    assert (units.status, words in units.fix) == (status, True), units


def test_recordings_without_a_unit_keep_their_own_scale(tmp_path, filmed):
    folder = write(tmp_path, filmed, camera={"units": "of no known length, as colmap leaves them"})
    units = finding(inspect_cameras(folder, with_video=False), "units")
    assert units.status == "ask" and "have no unit" in units.measured


def test_clips_of_very_different_ways_are_asked_about(tmp_path, filmed):
    for number, scale in enumerate((1.0, 1.0, 200.0)):
        poses = filmed[1]["poses"].copy()
        poses[:, :3, 3] *= scale * 0.02
        write(tmp_path, filmed, poses, key=f"clip{number}")
    assert "fold" in finding(inspect_cameras(tmp_path, with_video=False), "units").measured


def test_a_pose_that_is_no_rotation_is_named_and_the_others_are_measured(tmp_path, filmed):
    write(tmp_path, filmed, key="good")
    poses = filmed[1]["poses"].copy()
    poses[2, :3, :3] *= 1.5
    np.savez(tmp_path / "scaled.camera.npz", **{**filmed[1], "poses": poses})
    report = inspect_cameras(tmp_path, with_video=False)
    rotations = finding(report, "poses and lenses")
    assert rotations.status == "found" and report.num_recordings == 1
    assert "scaled.camera.npz" in rotations.about and "frame 2" in rotations.measured


def test_cameras_that_stand_still_teach_nothing(tmp_path, filmed):
    poses = np.tile(np.eye(4), (NUM_FRAMES, 1, 1))
    still = finding(inspect_cameras(write(tmp_path, filmed, poses), with_video=False), "stillness")
    assert still.status == "found" and "1 of 1 clip" in still.measured


def test_the_command_looks_at_cameras_where_there_are_no_actions(tmp_path, filmed):
    poses = filmed[1]["poses"] * np.where(np.arange(16).reshape(4, 4) == 3, 1000, 1)
    folder = write(tmp_path / "data", filmed, poses)
    assert holds_cameras(folder)
    words = ["dataset", "inspect", str(folder), "--without-video", "--json"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "found.json")])
    assert done.exit_code == 1, done.output
    assert json.loads((tmp_path / "found.json").read_text()) == json.loads(done.stdout)
    np.save(folder / "a.action.npy", np.zeros((NUM_FRAMES - 1, 7)))
    assert not holds_cameras(folder)


def test_rooms_are_cameras_too(tmp_path):
    write_clip(tmp_path, film_room(RoomSettings(num_frames=3, height=32, width=48), 0))
    assert not inspect_cameras(tmp_path, with_video=False).faults


def test_a_folder_without_cameras_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match="holds no camera that is read"):
        inspect_cameras(tmp_path)
