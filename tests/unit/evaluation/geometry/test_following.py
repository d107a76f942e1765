"""The trajectory of a flight is followed to centimetres, and another one is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.evaluation import choose_metrics
from nemo_cosmos.evaluation.cases import score_cases
from nemo_cosmos.evaluation.geometry.following import recorded_poses
from nemo_cosmos.platform import has

METRICS = choose_metrics(["trajectory_error_cm", "trajectory_rpe_cm", "trajectory_rpe_deg"])
needs_colmap = pytest.mark.skipif(not has("pycolmap"), reason="pycolmap is not installed")


def told(case, trajectory):
    return replace(case, recorded={**case.recorded, "trajectory": {"trajectory": trajectory}})


@needs_colmap
def test_a_trajectory_that_is_followed_and_one_that_is_not(flown):
    poses_T44 = flown.recorded["camera"]["poses"]
    (own,) = score_cases([told(flown, poses_T44[:, :3, 3])], METRICS)
    assert own.scores["trajectory_error_cm"] < 1
    assert own.scores["trajectory_rpe_cm"] < 2 and own.scores["trajectory_rpe_deg"] < 0.5
    assert len(own.curves["trajectory_error_cm"]) == len(poses_T44)
    # Moved elsewhere as a whole, it is the same trajectory.
    moved_T44 = np.array([[0, -1, 0, 3], [1, 0, 0, 2], [0, 0, 1, 1], [0, 0, 0, 1]]) @ poses_T44
    (same,) = score_cases([told(flown, moved_T44)], METRICS)
    assert same.scores == pytest.approx(own.scores, abs=1e-6)
    swerve = poses_T44[:, :3, 3] + np.array(
        [[0, 0, 0], [0.5, 0, 0], [0, 0, 0], [0, 0.5, 0], [0] * 3]
    )
    (other,) = score_cases([told(flown, swerve)], METRICS)
    assert other.scores["trajectory_error_cm"] > 10 * own.scores["trajectory_error_cm"]


@needs_colmap
def test_a_video_without_a_path_stands_still(flown):
    poses_T44 = flown.recorded["camera"]["poses"]
    flat = replace(flown, generated_THWC=np.full_like(flown.generated_THWC, 90))
    (found,) = score_cases([told(flat, poses_T44)], METRICS)
    away_T3 = poses_T44[:, :3, 3] - poses_T44[:, :3, 3].mean(axis=0)
    expected = 100 * np.linalg.norm(away_T3, axis=1).mean()
    assert found.scores["trajectory_error_cm"] == pytest.approx(expected)


def test_waypoints_of_another_number_are_refused(flown):
    with pytest.raises(ConfigError, match=r"shape \(64, 3\); expected \(5, 3\)"):
        recorded_poses(told(flown, np.zeros((64, 3))))
