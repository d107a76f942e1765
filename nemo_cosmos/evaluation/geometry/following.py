"""Does the camera of a video follow the trajectory that was recorded, in centimetres?

The Cosmos paper's trajectory following error: the path that structure from motion finds in the
generated video, laid onto the recorded one. A single camera does not show its scale, so the path is
scaled, too; a wrong speed that keeps its proportions does not show. A camera that is mounted away
from the point whose trajectory was recorded is off by as much in curves.

Where the pictures give no path, the errors are those of a camera that stands still; see
:mod:`.camera_path`. ``trajectory`` is (T, 3) positions in metres, or (T, 4, 4) poses; without poses
the motions over a frame are compared with those of ``camera``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.evaluation.geometry.camera_path import find_path_of
from nemo_cosmos.evaluation.geometry.path_errors import distances, relative_errors, scaled
from nemo_cosmos.evaluation.geometry.reconstruction import describe_colmap
from nemo_cosmos.evaluation.geometry.trajectory import similarity
from nemo_cosmos.evaluation.metric import Case, CaseMetric

Floats = NDArray[np.float64]


def following_curve_cm(case: Case) -> Floats:
    """Distance from the recorded trajectory at each frame, ``(T,)`` in centimetres.

    Args:
        case: a video with the signals ``trajectory`` and ``camera``.

    Raises:
        ConfigError: the trajectory has another shape.
        VideoError: the video is too short.
    """
    truth_T44 = recorded_poses(case)
    frame_N, poses_N44 = _found(case, truth_T44)
    away_N = distances(poses_N44[:, :3, 3], truth_T44[frame_N, :3, 3])
    return np.asarray(np.interp(np.arange(len(truth_T44)), frame_N, 100 * away_N))


def relative_cm_and_deg(case: Case) -> tuple[float, float]:
    """Relative pose errors from one found frame to the next: centimetres and degrees.

    Args:
        case: a video with the signals ``trajectory`` and ``camera``.
    """
    truth_T44 = recorded_poses(case)
    frame_N, poses_N44 = _found(case, truth_T44)
    truth_N44 = truth_T44[frame_N]
    motion = similarity(poses_N44[:, :3, 3], truth_N44[:, :3, 3])
    shift_m, turn_deg = relative_errors(scaled(poses_N44, motion.scale), truth_N44)
    return 100 * shift_m, turn_deg


def recorded_poses(case: Case) -> Floats:
    """The trajectory as poses ``(T, 4, 4)``, with the camera's rotations where it has none.

    Raises:
        ConfigError: it has another shape.
    """
    trajectory = np.asarray(next(iter(case.recorded["trajectory"].values())), np.float64)
    num_frames = len(case.generated_THWC)
    if trajectory.shape == (num_frames, 4, 4):
        return trajectory
    if trajectory.shape != (num_frames, 3):
        raise ConfigError(
            f"'trajectory' of '{case.name}' has shape {trajectory.shape}; expected ({num_frames}, "
            f"3), a position in metres for each frame, or ({num_frames}, 4, 4), a pose. Resample "
            "waypoints to the video's frames."
        )
    poses_T44 = np.array(case.recorded["camera"]["poses"], np.float64)
    poses_T44[:, :3, 3] = trajectory
    return poses_T44


def _found(case: Case, truth_T44: Floats) -> tuple[NDArray[np.intp], Floats]:
    """The frames that have a place, and their poses; a camera that stands still for none."""
    path = find_path_of(case)
    if path is not None:
        return path.frame_N, path.poses_N44
    return np.arange(len(truth_T44)), np.tile(np.eye(4), (len(truth_T44), 1, 1))


_NEEDS = frozenset({"trajectory", "camera"})
TRAJECTORY_ERROR_CM = CaseMetric(
    name="trajectory_error_cm",
    unit="cm",
    higher_is_better=False,
    description="trajectory following error: distance of the path found from the recorded one",
    needs=_NEEDS,
    per_frame=following_curve_cm,
    describe_features=describe_colmap,
)
TRAJECTORY_RPE_CM = CaseMetric(
    name="trajectory_rpe_cm",
    unit="cm",
    higher_is_better=False,
    description="relative pose error: how far the motion from frame to frame differs",
    needs=_NEEDS,
    compute=lambda case: relative_cm_and_deg(case)[0],
    describe_features=describe_colmap,
)
TRAJECTORY_RPE_DEG = CaseMetric(
    name="trajectory_rpe_deg",
    unit="degrees",
    higher_is_better=False,
    description="relative pose error: how much the turn from frame to frame differs",
    needs=_NEEDS,
    compute=lambda case: relative_cm_and_deg(case)[1],
    describe_features=describe_colmap,
)
