"""Whether views show one world: the recorded ones do, others do not."""

from __future__ import annotations

import numpy as np
import pytest

from post_training.driving.agreement import shared_points, view_differences
from post_training.driving.town import DriveSettings
from post_training.driving.town.generate import DriveStudio


@pytest.fixture(scope="module")
def drives():
    studio = DriveStudio(DriveSettings(num_frames=3, height=48, width=72))
    return [studio.record(number) for number in (1, 2)]


def test_true_views_agree_and_those_of_another_town_do_not(drives):
    one, other = drives
    true_T = view_differences(one.views, one.cameras(), one.depths)
    assert np.isnan(true_T[0]), "the first frame is given and does not count"
    mixed = {**one.views, "left": other.views["left"]}
    mixed_T = view_differences(mixed, one.cameras(), one.depths)
    assert np.nanmean(true_T) < 8
    assert np.nanmean(mixed_T) > 2 * np.nanmean(true_T)


def test_a_view_that_is_behind_by_a_frame_disagrees_more(drives):
    moving = max(drives, key=lambda drive: np.abs(drive.trajectory_T3[-1]).max())
    late = {**moving.views, "left": moving.views["left"][[0, 0, 1]]}
    cameras = moving.cameras()
    true, found = (
        np.nanmean(view_differences(views, cameras, moving.depths))
        for views in (moving.views, late)
    )
    assert found > true


def test_shared_points_are_the_same_point_of_the_world(drives):
    drive = drives[0]
    cameras = drive.cameras()
    points = shared_points(
        (cameras["front"], cameras["left"]), (drive.depths["front"][1], drive.depths["left"][1]), 1
    )
    assert len(points.first_P2) > 50
    assert points.first_P2[:, 0].mean() < 36 < points.second_P2[:, 0].mean()


def test_views_that_share_nothing_have_no_number(drives):
    drive = drives[0]
    apart = {name: drive.views[name] for name in ("left", "right")}
    assert np.isnan(view_differences(apart, drive.cameras(), drive.depths)).all()
