"""How far one path is from another: the errors of visual odometry, and of following a trajectory.

An estimated path has its own origin and axes, and one that was estimated from a single camera its
own scale. So it is laid onto the true one first, by the least-squares motion (Umeyama, 1991). What
is left is the *absolute trajectory error* (ATE; Sturm et al., 2012) in the unit of the truth, and
its mean in centimetres the *trajectory following error*. *Relative pose errors* (RPE) compare the
motion over a fixed number of frames instead, so that an early mistake does not count for ever.

Shape suffixes: T frames; 3 metres; 33 and 44 matrices, which lead from the camera to the world.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import SampleError
from nemo_cosmos.evaluation.geometry.trajectory import angles_deg, similarity

Floats = NDArray[np.float64]


def distances(estimate_T3: Floats, truth_T3: Floats, *, with_scale: bool = True) -> Floats:
    """Distance at each frame ``(T,)`` after the alignment, in the unit of the truth.

    Args:
        estimate_T3: positions of the path that is laid onto the other.
        truth_T3: positions at the same moments.
        with_scale: whether it may be scaled.

    Raises:
        SampleError: the two differ in length, or are no positions.
    """
    estimate_T3, truth_T3 = _checked(estimate_T3, truth_T3, (3,))
    moved_T3 = similarity(estimate_T3, truth_T3, with_scale=with_scale).move(estimate_T3)
    return np.asarray(np.linalg.norm(moved_T3 - truth_T3, axis=1))


def absolute_error(estimate_T3: Floats, truth_T3: Floats, *, with_scale: bool = True) -> float:
    """ATE: root mean square of :func:`distances`."""
    away_T = distances(estimate_T3, truth_T3, with_scale=with_scale)
    return float(np.sqrt((away_T**2).mean()))


def following_error_cm(estimate_T3: Floats, truth_T3: Floats, *, with_scale: bool = True) -> float:
    """Trajectory following error: mean of :func:`distances` of paths in metres, in centimetres."""
    return float(100 * distances(estimate_T3, truth_T3, with_scale=with_scale).mean())


def relative_errors(
    estimate_T44: Floats, truth_T44: Floats, num_frames: int = 1
) -> tuple[float, float]:
    """RPE: how much the motions over some frames differ, as root mean squares.

    Args:
        estimate_T44: poses in the scale of the truth; multiply by that of ``similarity`` where they
            have another.
        truth_T44: poses at the same moments.
        num_frames: frames from the beginning to the end of a motion.

    Returns:
        the error of the translation in the unit of the truth, and that of the rotation in degrees.

    Raises:
        SampleError: the two differ in length, are no poses, or are too short.
    """
    estimate_T44, truth_T44 = _checked(estimate_T44, truth_T44, (4, 4))
    if len(truth_T44) <= num_frames:
        raise SampleError(
            f"A path of {len(truth_T44)} poses has no motion over {num_frames} frames. Compare "
            "longer paths, or motions over fewer frames."
        )
    made, true = (
        np.linalg.inv(poses[:-num_frames]) @ poses[num_frames:]
        for poses in (estimate_T44, truth_T44)
    )
    off_T44 = np.linalg.inv(true) @ made
    shift_T = np.linalg.norm(off_T44[:, :3, 3], axis=1)
    turn_deg_T = angles_deg(off_T44[:, :3, :3])
    return float(np.sqrt((shift_T**2).mean())), float(np.sqrt((turn_deg_T**2).mean()))


def scaled(poses_T44: Floats, factor: float) -> Floats:
    """Poses with all positions multiplied."""
    moved_T44 = np.array(poses_T44, np.float64)
    moved_T44[:, :3, 3] *= factor
    return moved_T44


def _checked(estimate: Floats, truth: Floats, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    estimate, truth = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    if estimate.shape != truth.shape or truth.shape[1:] != shape or not len(truth):
        raise SampleError(
            f"The paths have shapes {estimate.shape} and {truth.shape}; expected both to be "
            f"(frames, {', '.join(map(str, shape))}). Give a row for each frame of both."
        )
    return estimate, truth
