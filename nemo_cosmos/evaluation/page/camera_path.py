"""A camera's path as a drawing: from above and from the side, with where it looks.

Shape suffixes: T frames; 44 and 33 matrices.
"""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nemo_cosmos.controls import Values

_NUM_SHOWN = 9
"""Cameras that are drawn, evenly spread over the path."""
_COLOURS = "viridis"


def draw_camera_path(top: Axes, side: Axes, values: Values) -> None:
    """Draw a path as its first camera sees it.

    Each camera is a triangle that opens where it looks, as wide as its field of view; colours go
    from the first frame to the last.

    Args:
        top: where it is drawn from above.
        side: where it is drawn from the left.
        values: the arrays of ``camera.npz``.
    """
    poses_T44 = np.asarray(values["poses"], np.float64)
    poses_T44 = np.linalg.inv(poses_T44[0]) @ poses_T44
    edges_T43 = _frustums(values, poses_T44)
    _draw(top, poses_T44, edges_T43[:, :2], (0, 2), ("right, m", "forward, m"))
    _draw(side, poses_T44, edges_T43[:, 2:], (2, 1), ("forward, m", "up, m"))


def _frustums(values: Values, poses_T44: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ends of the rays at the left, right, upper and lower edge of each picture, ``(T, 4, 3)``."""
    height, width = np.asarray(values["size"], np.float64)
    matrices_T33 = np.asarray(values["intrinsics"], np.float64)
    travel = float(np.ptp(poses_T44[:, :3, 3], axis=0).max())
    length = 0.18 * travel if travel > 1e-6 else 1.0
    ends_T43 = np.empty((len(poses_T44), 4, 3))
    middle = [width / 2, height / 2]
    edges = [[0, middle[1]], [width, middle[1]], [middle[0], 0], [middle[0], height]]
    for frame, pose_44 in enumerate(poses_T44):
        rays_43 = np.linalg.solve(matrices_T33[frame], np.c_[edges, np.ones(4)].T).T
        ends_T43[frame] = length * rays_43 @ pose_44[:3, :3].T + pose_44[:3, 3]
    return ends_T43


def _draw(
    axes: Axes,
    poses_T44: NDArray[np.float64],
    ends_T23: NDArray[np.float64],
    kept: tuple[int, int],
    labels: tuple[str, str],
) -> None:
    """Draw two of the three coordinates; y leads down in the poses and up on paper."""
    signs = np.array([-1.0 if axis == 1 else 1.0 for axis in kept])
    path_T2 = poses_T44[:, list(kept), 3] * signs
    num_frames = len(path_T2)
    colours = colormaps[_COLOURS](np.linspace(0, 0.9, num_frames))
    axes.plot(path_T2[:, 0], path_T2[:, 1], color="0.7", linewidth=1, zorder=1)
    axes.scatter(path_T2[:, 0], path_T2[:, 1], c=colours, s=9, zorder=2)
    for frame in np.unique(np.linspace(0, num_frames - 1, _NUM_SHOWN).round().astype(int)):
        corners = np.stack([path_T2[frame], *(ends_T23[frame][:, list(kept)] * signs)])
        axes.fill(*corners.T, facecolor=(*colours[frame][:3], 0.18), edgecolor=colours[frame])
    for name, (x, y), above in (("first", path_T2[0], -10), ("last", path_T2[-1], 6)):
        place = (float(x), float(y))
        axes.annotate(name, place, textcoords="offset points", xytext=(6, above), fontsize=8)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(color="0.92")
