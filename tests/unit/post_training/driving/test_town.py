"""The rendered town: what is drawn lies where the cameras say, and is the same on every run."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from data_curation.clip import Clip
from data_curation.sources.robot_data import refuse_robot_data
from nemo_cosmos.controls import CAMERA, RIG, read_signal
from nemo_cosmos.controls.camera import project_rays
from nemo_cosmos.controls.depth import SCENE_DEPTH
from nemo_cosmos.controls.rig import camera_of
from nemo_cosmos.data.shards.recorded import shard_recordings
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.errors import ConfigError, InputError, MissingFileError, SampleError
from nemo_cosmos.video import Video, encode_video, probe
from post_training.driving.recordings import DRIVES
from post_training.driving.rigs import find_rig
from post_training.driving.town import DriveSettings, simulate_drives
from post_training.driving.town.drives import draw_drive, is_on_street
from post_training.driving.town.eye import Eye
from post_training.driving.town.generate import DriveStudio
from post_training.driving.town.layout import LINES, draw_layout
from post_training.driving.town.plan import CAR, plan_town

SETTINGS = DriveSettings(num_frames=5, height=32, width=48, has_layout=True)


@pytest.fixture(scope="module")
def town():
    return plan_town(np.random.default_rng(5))


def test_a_box_is_seen_where_its_corners_are_projected_to(town):
    """A red box before the camera covers the hull of its corners, for either lens."""
    low, high = np.array([8.0, -1.0, 0.5]), np.array([9.0, 1.0, 2.0])
    alone = type(town)(
        town.mood,
        town.style,
        low[None].astype(np.float32),
        high[None].astype(np.float32),
        np.array([[1.0, 0, 0]], np.float32),
        np.array([CAR]),
        town.ground,
    )
    corners = np.array([[x, y, z] for x in (8.0, 9) for y in (-1.0, 1) for z in (0.5, 2.0)])
    for polynomial in (None, np.array([0.0, 1.0, 0.03])):
        values = find_rig("three").signal(64, 96)
        if polynomial is not None:
            values["angle_polynomial"] = np.tile(polynomial, (3, 1))
        camera = camera_of(values, 0, np.eye(4)[None])
        picture = Eye(camera, 64, 96).look(alone, camera["poses"][0]).picture_HWC.astype(int)
        is_red = (picture[..., 0] > 80) & (picture[..., 1:].max(axis=-1) < 60)
        seen = (corners - camera["poses"][0][:3, 3]) @ camera["poses"][0][:3, :3]
        hull = cv2.convexHull(project_rays(camera, 0, seen).astype(np.float32))
        expected = np.zeros((64, 96), np.uint8)
        cv2.fillConvexPoly(expected, np.round(hull).astype(np.int32), 1)
        assert Eye(camera, 64, 96).look(alone, camera["poses"][0]).depth_HW[
            is_red & (expected > 0)
        ].mean() == pytest.approx(8 - 1.4, abs=0.4)
        overlap = (is_red & (expected > 0)).sum() / (is_red | (expected > 0)).sum()
        assert overlap > 0.7


def test_overlapping_cameras_see_the_same_world(town):
    """Turned to each other by the rig's rotation, two views agree where they overlap."""
    values = find_rig("three").signal(64, 96)
    pictures = []
    for view in (0, 1):
        camera = camera_of(values, view, np.eye(4)[None])
        pictures.append(Eye(camera, 64, 96).look(town, camera["poses"][0]).picture_HWC)
    lens = values["intrinsics"][0]
    turn = values["poses"][1, :3, :3].T @ values["poses"][0, :3, :3]
    warp = lens @ np.linalg.inv(turn) @ np.linalg.inv(lens)
    moved = cv2.warpPerspective(pictures[1], warp, (96, 64), borderValue=(255, 0, 255))
    is_shared = (moved != (255, 0, 255)).any(-1) & (np.arange(96) < 24)
    error = np.abs(moved.astype(float) - pictures[0])[is_shared].mean()
    mirrored = np.abs(moved[:, ::-1].astype(float) - pictures[0])[is_shared[:, ::-1]].mean()
    assert is_shared.sum() > 300
    assert error < 0.5 * mirrored


def test_the_layout_draws_the_middle_of_the_street_where_it_is(town):
    camera = camera_of(find_rig("three").signal(64, 96), 0, np.eye(4)[None])
    camera["poses"] = camera["poses"] + 0
    camera["poses"][0, :3, 3] += [-20, -2.2, 0]
    layout = draw_layout(town, camera, 64, 96).astype(int)
    point = np.array([[-12.0, 0, 0]])
    seen = (point - camera["poses"][0][:3, 3]) @ camera["poses"][0][:3, :3]
    column, row = np.floor(project_rays(camera, 0, seen)[0]).astype(int)
    near = layout[row - 1 : row + 2, column - 1 : column + 2].reshape(-1, 3)
    assert np.abs(near - LINES["middle"]).sum(axis=1).min() < 250
    assert (layout.sum(-1) == 0).mean() > 0.5


@pytest.mark.parametrize("seed", range(4))
def test_a_car_looks_along_its_path_and_stays_on_the_street(seed):
    random = np.random.default_rng(seed)
    drives = [draw_drive(random, 17, 10.0) for _ in range(40)]
    assert sum(is_on_street(drive.vehicle_T44) for drive in drives) > 36
    for drive in drives:
        steps = np.diff(drive.vehicle_T44[:, :3, 3], axis=0)
        lengths = np.linalg.norm(steps, axis=1)
        middle = drive.vehicle_T44[:-1, :3, 0] + drive.vehicle_T44[1:, :3, 0]
        cosine = (steps * middle).sum(1) / np.maximum(lengths, 1e-9)
        cosine /= np.linalg.norm(middle, axis=1)
        assert (cosine[lengths > 0.05] > 0.995).all()
        assert drive.trajectory[0] == pytest.approx([0, 0, 0])
        assert lengths.max() < 2


def test_drives_are_recorded_with_all_that_belongs_to_them(tmp_path):
    report = simulate_drives(tmp_path, 2, SETTINGS, workers=0)
    assert (report.num_episodes, report.num_new) == (2, 2)
    key = "drive_000001"
    assert DRIVES.is_complete(tmp_path, key)
    record = json.loads((tmp_path / f"{key}.json").read_text())
    assert record["views"] == ["front", "left", "right"]
    for name in ("", "left.", "right."):
        for ending in ("mp4", "layout.mp4"):
            info = probe(tmp_path / f"{key}.{name}{ending}")
            assert (info.num_frames, info.height, info.width) == (5, 32, 48)
        CAMERA.check(CAMERA.values(tmp_path / f"{key}.{name}camera.npz"), 5)
        SCENE_DEPTH.check(SCENE_DEPTH.values(tmp_path / f"{key}.{name}scene_depth.npz"), 5)
    RIG.check(RIG.values(tmp_path / f"{key}.rig.npz"), 5)
    assert read_signal(tmp_path / f"{key}.trajectory.npy").shape == (5, 3)
    assert simulate_drives(tmp_path, 2, SETTINGS, workers=0).num_new == 0
    again = DriveStudio(SETTINGS).record(1)
    assert np.allclose(again.trajectory_T3, read_signal(tmp_path / f"{key}.trajectory.npy"))
    with pytest.raises(ConfigError, match="other settings"):
        simulate_drives(tmp_path, 2, DriveSettings(num_frames=5), workers=0)


@pytest.fixture
def drives(tmp_path):
    folder = tmp_path / "drives"
    simulate_drives(folder, 2, SETTINGS, workers=0)
    return folder


def test_recordings_become_shards_with_all_views(drives, tmp_path):
    report = shard_recordings(drives, tmp_path / "shards")
    assert (report.num_samples, dict(report.views)) == (2, {"front, left, right": 2})
    samples = read_samples(tmp_path / "shards")
    expected = {"mp4", "left.mp4", "right.mp4", "layout.mp4", "left.layout.mp4"}
    assert expected | {"right.layout.mp4", "rig.npz", "trajectory.npy"} <= set(samples[0].members)
    assert not any("left.camera" in name for name in samples[0].members)
    for sample in samples:
        sample.verify()
        assert sample.record.views == ("front", "left", "right")
    with pytest.raises(InputError, match="is not empty"):
        shard_recordings(drives, tmp_path / "shards")


def test_what_does_not_belong_together_is_refused_and_nothing_is_written(drives, tmp_path):
    left = drives / "drive_000001.left.mp4"
    whole = left.read_bytes()

    def refused(error, reason):
        with pytest.raises(error, match=reason):
            shard_recordings(drives, tmp_path / "shards")
        assert not (tmp_path / "shards").exists()

    left.unlink()
    refused(MissingFileError, r"no '.*drive_000001\.left\.mp4'")
    for shape, fps in (((4, 32, 48, 3), 10), ((5, 48, 64, 3), 10), ((5, 32, 48, 3), 12)):
        encode_video(left, Video(np.zeros(shape, np.uint8), fps))
        refused(SampleError, r"left\.mp4' has .* the same\s+moments|left\.mp4' has")
    left.write_bytes(whole)
    np.save(drives / "drive_000000.trajectory.npy", np.zeros((4, 3)))
    refused(SampleError, "4 rows")
    with pytest.raises(MissingFileError, match="split 'val'"):
        shard_recordings(drives, tmp_path / "shards", split="val")


def test_curation_refuses_drives_and_names_the_command_that_keeps_them(drives):
    clips = [Clip(source=file, name=file.name) for file in sorted(drives.glob("*.mp4"))]
    with pytest.raises(InputError, match="nemo-cosmos dataset shard"):
        refuse_robot_data(drives, clips)
