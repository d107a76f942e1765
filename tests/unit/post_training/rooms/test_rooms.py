"""Rooms that a camera films: what is recorded agrees with what is seen."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nemo_cosmos.controls import CAMERA
from nemo_cosmos.controls.depth import SCENE_DEPTH
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.video import decode
from post_training.rooms import ROOMS, RoomSettings, simulate_rooms
from post_training.rooms.paths import KINDS, MARGIN_M, draw_path
from post_training.rooms.scene import Box, Pattern, Room, draw_room
from post_training.rooms.studio import film_room

SETTINGS = RoomSettings(num_frames=5, height=32, width=48, seed=3)


def test_the_depth_and_the_camera_say_where_each_point_is_seen_later():
    clip = film_room(SETTINGS, KINDS.index("orbit"))
    first_HWC, last_HWC = (clip.video.frames_THWC[at].astype(float) for at in (0, -1))
    lens_33, poses_T44 = clip.camera["intrinsics"][0], clip.camera["poses"]
    rows, columns = np.mgrid[:32, :48] + 0.5
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(lens_33).T
    points = rays * clip.depth["depth_m"][0][..., None] @ poses_T44[0, :3, :3].T
    points += poses_T44[0, :3, 3]
    seen = (points - poses_T44[-1, :3, 3]) @ poses_T44[-1, :3, :3]
    u, v = np.moveaxis((seen / seen[..., 2:] @ lens_33.T)[..., :2], -1, 0)
    is_in = (u > 1) & (v > 1) & (u < 47) & (v < 31)
    away = np.abs(last_HWC[v[is_in].astype(int), u[is_in].astype(int)] - first_HWC[is_in])
    assert is_in.mean() > 0.5
    # The picture did change, but not at the places where the points went.
    assert np.abs(last_HWC - first_HWC).mean() > 3 * np.median(away.mean(axis=1))
    assert np.median(away) < 2


def test_a_wall_is_as_far_as_it_is():
    paint = Pattern("checks", 0.5, (0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
    shell = Box((0, -1.5, 0), (2, 1.5, 3), 0.0, (paint,) * 6)
    block = Box((0, -1.0, 2.0), (0.5, 1.0, 0.5), 0.0, (paint,) * 6)
    rays = np.array([[0.0, 0, 1], [0, 0, -1], [1, 0, 0], [-2, 0, 0], [0, 1, 0], [0, -1, 0]])
    _, distance = Room(shell, (block,)).look(np.array([0.0, -1.0, 0.0]), rays)
    np.testing.assert_allclose(distance, [1.5, 3, 2, 1, 1, 2])


def test_a_recording_depends_on_its_number_alone_and_every_room_is_a_new_one():
    one, again, other = (film_room(SETTINGS, index) for index in (1, 1, 9))
    np.testing.assert_array_equal(one.video.frames_THWC, again.video.frames_THWC)
    assert one.record["task"] == other.record["task"]  # kinds take turns
    assert np.abs(one.video.frames_THWC[0].astype(int) - other.video.frames_THWC[0]).mean() > 10


def test_a_path_keeps_away_from_walls_and_blocks():
    for index in range(24):
        random = np.random.default_rng(index)
        room = draw_room(random)
        poses_T44 = draw_path(random, room, KINDS[index % len(KINDS)], 9)
        assert room.is_free(poses_T44[:, :3, 3], MARGIN_M)


def test_words_do_not_say_which_way_the_camera_goes(tmp_path):
    simulate_rooms(tmp_path, 3, SETTINGS, workers=0)
    records = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("room_*.json"))]
    assert len({record["caption"] for record in records}) == 1
    assert [record["task"] for record in records] == list(KINDS[:3])


def test_a_folder_is_filled_up_and_its_files_are_what_readers_expect(tmp_path):
    simulate_rooms(tmp_path, 1, SETTINGS, workers=0)
    report = simulate_rooms(tmp_path, 2, SETTINGS, workers=0)
    assert (report.num_new, report.num_episodes) == (1, 2)
    assert len(ROOMS.complete_keys(tmp_path, "room_*")) == 2
    video = decode(tmp_path / "room_000001.mp4")
    assert video.frames_THWC.shape == (5, 32, 48, 3)
    for signal in (CAMERA, SCENE_DEPTH):
        with np.load(tmp_path / f"room_000001.{signal.suffix}") as values:
            signal.check(dict(values), 5, "room_000001")


def test_another_renderer_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="by 'software' alone"):
        simulate_rooms(tmp_path, 1, SETTINGS, renderer="egl")


def test_one_room_can_be_filmed_on_many_paths():
    one, other = (film_room(replace(SETTINGS, room=7, seed=seed), 0) for seed in (3, 4))
    colors = [
        {tuple(color) for color in clip.video.frames_THWC.reshape(-1, 3)} for clip in (one, other)
    ]
    new = film_room(replace(SETTINGS, seed=4), 0)
    strange = {tuple(color) for color in new.video.frames_THWC.reshape(-1, 3)}
    assert not np.array_equal(one.camera["poses"], other.camera["poses"])
    assert len(colors[0] & colors[1]) > len(colors[0] & strange)


def sharpness(clip):
    """The largest difference between neighbours of a row, in the middle 90 % of all."""
    rows = clip.video.frames_THWC.astype(float)
    return np.quantile(np.abs(np.diff(rows, axis=2)).max(axis=-1), 0.95)


def test_clouds_are_soft_and_nowhere_repeat():
    clouds = replace(SETTINGS, paint="clouds", width=96, height=64)
    sharp, soft = (film_room(replace(clouds, paint=paint), 2) for paint in ("patterns", "clouds"))
    assert sharpness(soft) < 0.5 * sharpness(sharp)
    wall = draw_room(np.random.default_rng(3), "clouds").shell.faces[0]
    along = np.linspace(0, 6, 61)
    row = wall.color(along, np.full(61, 1.0))
    shifts = [np.abs(row[shift:] - row[:-shift]).max() for shift in range(2, 40)]
    assert min(shifts) > 0.05


def test_a_paint_that_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match="'stripes'; expected patterns or clouds"):
        replace(SETTINGS, paint="stripes")
