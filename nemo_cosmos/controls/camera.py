"""The camera signal, ``{key}.camera.npz``: where the camera is at each frame, and what it sees.

::

    CAMERA.check({"poses": poses_T44, "intrinsics": matrices_T33, "size": [height, width]}, T)

Axes are OpenCV's: x right, y down, z forward. Pixels are counted from the upper left corner of the
picture, so that the middle of the first pixel is (0.5, 0.5) and that of a picture W wide is W / 2.

A fisheye of the f-theta kind has an array more, ``angle_polynomial``: with
``r = hypot((u - cx) / fx, (v - cy) / fy)`` the ray of a pixel is ``sum(a_k r^k)`` radians off the
axis. Its radius is counted in focal lengths, so that resizing and cropping change ``intrinsics``
alone, whatever the lens.

Shape suffixes: T frames, N points; 33 and 44 matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls.change import PictureChange
from nemo_cosmos.controls.mirror import mirror_poses
from nemo_cosmos.controls.signal import Signal
from nemo_cosmos.controls.signal_array import SignalArray
from nemo_cosmos.controls.signal_files import Values
from nemo_cosmos.errors import SampleError

Matrix = NDArray[np.float64]

ROTATION_TOLERANCE = 1e-3
"""How far a rotation's columns may be from orthonormal; float16 files pass, scaled ones do not."""
MAX_DISTANCE_M = 1e5
"""Farther from the origin float32, in which models read poses, does not resolve a centimetre."""
OTHER_LENSES = (
    "distortion",
    "distortion_coefficients",
    "dist_coeffs",
    "bw_poly",
    "fw_poly",
    "model",
    "camera_model",
)
"""Arrays by which other formats say that a camera is no pinhole; ignored, they would be wrong."""
_MAX_ANGLE_RAD = np.pi / 2


def find_camera_fault(values: Values) -> str | None:
    """Say what is wrong with cameras whose arrays have the right shapes; None where nothing is.

    Args:
        values: the arrays of ``camera.npz``.
    """
    poses_T44 = np.asarray(values["poses"], np.float64)
    fault = _poses_fault(poses_T44, "poses", "camera-to-world matrices", "and OpenCV axes")
    return fault or _places_fault(poses_T44[:, :3, 3], "cameras") or _lens_fault(values)


def find_path_fault(values: Values) -> str | None:
    """Say what is wrong with the path of a vehicle or a camera; None where nothing is.

    Args:
        values: ``trajectory``, with a row for each frame.
    """
    path = np.asarray(values["trajectory"], np.float64)
    if path.shape[1:] == (4, 4):
        fault = _poses_fault(path, "trajectory", "vehicle-to-world matrices", "in metres")
        return fault or _places_fault(path[:, :3, 3], "positions")
    if path.shape[1:] != (3,):
        return (
            f"has the shape {path.shape}; expected (T, 3) positions in metres (x forward, y left, "
            "z up), or (T, 4, 4) poses, a row for each frame."
        )
    return _places_fault(path, "positions")


def _poses_fault(poses_T44: Matrix, name: str, form: str, also: str) -> str | None:
    """What is wrong with rigid motions.

    Args:
        poses_T44: the matrices.
        name: the array's name.
        form: what they are, such as ``camera-to-world matrices``.
        also: what else is expected of them.
    """
    if (frame := _first(_are_no_rotations(poses_T44[:, :3, :3]))) is not None:
        return (
            f"holds no rotation in '{name}' of frame {frame}: expected {form} [R t; 0 0 0 1] with "
            f"orthonormal R of determinant 1 {also}. Write R without scale or mirroring, or leave "
            "the file out."
        )
    if (frame := _first(np.abs(poses_T44[:, 3] - [0, 0, 0, 1]).max(axis=1) > 1e-6)) is not None:
        return (
            f"holds a matrix in '{name}' of frame {frame} whose last row is not 0 0 0 1; expected "
            f"{form} [R t; 0 0 0 1]. Transpose them, or leave the file out."
        )
    return None


def _places_fault(places_T3: Matrix, what: str) -> str | None:
    """What is wrong with places that float32 is to hold."""
    farthest_m = float(np.abs(places_T3).max(initial=0))
    if farthest_m > MAX_DISTANCE_M:
        return (
            f"has {what} {farthest_m:.3g} m from the origin, where float32 resolves no "
            "centimetre. Subtract the first position from all, or write metres."
        )
    return None


def _lens_fault(values: Values) -> str | None:
    """What is wrong with the part of a camera that does not move."""
    for name in OTHER_LENSES:
        if name in values and not _says_pinhole(values[name]):
            return (
                f"has '{name}', a lens that this signal does not know; expected a pinhole, or an "
                "f-theta lens as 'angle_polynomial' (nemo_cosmos.controls.camera.ftheta_camera). "
                "Undistort the frames and write the pinhole that they then have."
            )
    matrices_T33 = np.asarray(values["intrinsics"], np.float64)
    height, width = np.asarray(values["size"], np.float64)
    if not (height >= 1 and width >= 1):
        return f"has the 'size' ({height:g}, {width:g}); expected (height, width) in pixels."
    lower = matrices_T33[:, (1, 2, 2), (0, 0, 1)]
    is_bad = (np.abs(lower) > 1e-6).any(axis=1) | (np.abs(matrices_T33[:, 2, 2] - 1) > 1e-6)
    is_bad |= (matrices_T33[:, (0, 1), (0, 1)] <= 0).any(axis=1)
    if (frame := _first(is_bad)) is not None:
        return (
            f"has degenerate 'intrinsics' at frame {frame}: expected [fx s cx; 0 fy cy; 0 0 1] "
            "with positive focal lengths in pixels. Write them again, or leave the file out."
        )
    widest = 2 * np.arctan(width / (2 * matrices_T33[:, 0, 0].min(initial=np.inf)))
    if matrices_T33[:, 0, 0].min(initial=np.inf) < 2 or widest > np.radians(179):
        return (
            f"has a focal length of {matrices_T33[:, 0, 0].min():g} pixels for a picture {width:g} "
            "wide. Intrinsics are in pixels: multiply normalised ones by the width and height."
        )
    if "angle_polynomial" in values:
        return _polynomial_fault(values, matrices_T33, (float(height), float(width)))
    return None


def _says_pinhole(array: Array) -> bool:
    """Whether another format's array says that there is no distortion: zeros, or the word."""
    if array.dtype.kind in "fiu":
        return not array.any()
    return all(str(word).lower() in ("pinhole", "simple_pinhole") for word in np.ravel(array))


def _polynomial_fault(
    values: Values, matrices_T33: Matrix, size: tuple[float, float]
) -> str | None:
    """What is wrong with the polynomial of a fisheye."""
    polynomial = np.asarray(values["angle_polynomial"], np.float64)
    if polynomial.size < 2:
        return "has an 'angle_polynomial' of fewer than two coefficients; expected a_0, a_1, ..."
    corners_N2 = np.array([(x, y) for x in (0, size[1]) for y in (0, size[0])], np.float64)
    radius = float(np.linalg.norm(_in_focal_lengths(corners_N2, matrices_T33[0]), axis=1).max())
    slopes = np.polynomial.Polynomial(polynomial).deriv()(np.linspace(0, radius, 256))
    if abs(polynomial[0]) > 1e-3 or (slopes <= 0).any():
        return (
            "has an 'angle_polynomial' that does not grow from 0 over the whole picture; expected "
            "the angle in radians for a radius in focal lengths. Convert a polynomial of pixels "
            "with nemo_cosmos.controls.camera.ftheta_camera."
        )
    return None


def scale_path(values: Values, scale: float) -> Values:
    """A camera that moves and turns more or less from where it begins; 0 holds it still.

    Each pose is taken relative to the first one; its translation and the angle of its rotation are
    multiplied. The lens stays.

    Args:
        values: the arrays of ``camera.npz``.
        scale: the factor.
    """
    from scipy.spatial.transform import Rotation

    poses_T44 = np.asarray(values["poses"], np.float64)
    relative_T44 = np.linalg.inv(poses_T44[0]) @ poses_T44
    turns_T3 = Rotation.from_matrix(relative_T44[:, :3, :3]).as_rotvec()
    relative_T44[:, :3, :3] = Rotation.from_rotvec(scale * turns_T3).as_matrix()
    relative_T44[:, :3, 3] *= scale
    return {**values, "poses": (poses_T44[0] @ relative_T44).astype(values["poses"].dtype)}


def follow_picture(values: Values, change: PictureChange) -> Values:
    """The camera of pictures that are cut, and of the mirrored world where they are mirrored.

    A point mirrored with the world is seen where the mirrored picture shows it. A lens is the same
    from its axis to either side, so that its polynomial stays.

    Args:
        values: the arrays of ``camera.npz``.
        change: what becomes of the pictures.
    """
    scale_2 = np.array(change.size[::-1]) / np.asarray(values["size"], np.float64)[::-1]
    top, left, _, _ = change.box
    matrices_T33 = np.array(values["intrinsics"], np.float64)
    matrices_T33[:, :2] *= scale_2[:, None]
    matrices_T33[:, :2, 2] -= (left, top)
    changed = {"intrinsics": matrices_T33, "size": np.asarray(change.kept_size, np.float64)}
    if change.mirror_axis is not None:
        matrices_T33[:, 0, 2] = change.kept_size[1] - matrices_T33[:, 0, 2]
        matrices_T33[:, 0, 1] *= -1
        changed["poses"] = mirror_poses(np.asarray(values["poses"]), change.mirror_axis)
    return dict(values) | changed


CAMERA = Signal(
    "camera.npz",
    (
        SignalArray(
            "poses",
            "frame",
            (4, 4),
            units="m",
            convention="camera to world; x right, y down, z forward",
        ),
        SignalArray(
            "intrinsics",
            "frame",
            (3, 3),
            units="px",
            convention="[fx s cx; 0 fy cy; 0 0 1], pixels from the picture's upper left corner",
        ),
        SignalArray("size", None, (2,), units="px", convention="height, width"),
        SignalArray(
            "angle_polynomial",
            None,
            (None,),
            units="rad",
            convention="f-theta lens: angle off the axis for a radius in focal lengths",
            is_required=False,
        ),
    ),
    find_camera_fault,
    scale_path,
    follow_picture,
)


def ftheta_camera(
    poses_T44: Matrix,
    centre: Sequence[float],
    size: tuple[float, float],
    polynomial: Sequence[float],
) -> dict[str, Array]:
    """The camera signal of an f-theta lens from its calibration in pixels.

    Args:
        poses_T44: camera to world, of each frame.
        centre: (x, y) of the optical axis in pixels.
        size: height and width in pixels of the picture that was calibrated.
        polynomial: coefficients of the angle in radians for a radius in pixels, lowest first;
            NVIDIA calls it the backward polynomial.

    Raises:
        SampleError: the polynomial has no linear part, so that there is no focal length.
    """
    per_pixel = np.asarray(polynomial, np.float64)
    if per_pixel.size < 2 or not per_pixel[1] > 0:
        raise SampleError(
            "The polynomial of an f-theta lens has no positive linear part; expected the angle in "
            "radians for a radius in pixels, lowest coefficient first."
        )
    focal_px = 1 / per_pixel[1]
    matrix_33 = np.array([[focal_px, 0, centre[0]], [0, focal_px, centre[1]], [0, 0, 1]])
    return {
        "poses": np.asarray(poses_T44, np.float64),
        "intrinsics": np.tile(matrix_33, (len(poses_T44), 1, 1)),
        "size": np.asarray(size, np.float64),
        "angle_polynomial": per_pixel * focal_px ** np.arange(per_pixel.size),
    }


def fit_camera(
    values: Values, outer: tuple[int, int], size: tuple[int, int] | None = None
) -> dict[str, Array]:
    """The camera of frames that were resized, and then cropped or padded around their middle.

    Args:
        values: the arrays of ``camera.npz``.
        outer: height and width that the frames were resized to.
        size: height and width that were cut out of their middle, or that they were padded to; by
            default all.
    """
    size = size or outer
    # As video.resize crops and pads: whole pixels, an odd one at the far side.
    corner_2 = np.trunc((np.array(outer[::-1]) - size[::-1]) / 2)
    scale_2 = np.array(outer[::-1]) / np.asarray(values["size"], np.float64)[::-1]
    matrices_T33 = np.array(values["intrinsics"], np.float64)
    matrices_T33[:, :2] *= scale_2[:, None]
    matrices_T33[:, :2, 2] -= corner_2
    return dict(values) | {"intrinsics": matrices_T33, "size": np.asarray(size, np.float64)}


def pixel_rays(values: Values, frame: int, points_N2: Matrix) -> Matrix:
    """Unit rays ``(N, 3)`` of pixels in the camera's own axes, for any lens of this signal.

    Args:
        values: the arrays of ``camera.npz``.
        frame: the frame whose intrinsics count.
        points_N2: (x, y) in pixels from the upper left corner.
    """
    plane_N2 = _in_focal_lengths(points_N2, np.asarray(values["intrinsics"][frame], np.float64))
    if "angle_polynomial" not in values:
        rays_N3 = np.c_[plane_N2, np.ones(len(plane_N2))]
        return np.asarray(rays_N3 / np.linalg.norm(rays_N3, axis=1, keepdims=True))
    radius_N1 = np.linalg.norm(plane_N2, axis=1, keepdims=True)
    angle_N1 = np.polynomial.Polynomial(np.asarray(values["angle_polynomial"], np.float64))(
        radius_N1
    )
    sideways_N2 = plane_N2 / np.maximum(radius_N1, 1e-12) * np.sin(angle_N1)
    return np.c_[sideways_N2, np.cos(angle_N1)]


def project_rays(values: Values, frame: int, rays_N3: Matrix) -> Matrix:
    """Pixels ``(N, 2)`` of rays in the camera's own axes; NaN behind the camera.

    Args:
        values: the arrays of ``camera.npz``.
        frame: the frame whose intrinsics count.
        rays_N3: rays of any length.
    """
    matrix_33 = np.asarray(values["intrinsics"][frame], np.float64)
    sideways_N = np.linalg.norm(rays_N3[:, :2], axis=1)
    angle_N = np.arctan2(sideways_N, rays_N3[:, 2])
    if "angle_polynomial" in values:
        polynomial = np.polynomial.Polynomial(np.asarray(values["angle_polynomial"], np.float64))
        # The lens gives angles of radii; their inverse is read off a fine table of it.
        height, width = (float(side) for side in values["size"])
        corners_N2 = np.array([(x, y) for x in (0, width) for y in (0, height)])
        longest = np.linalg.norm(_in_focal_lengths(corners_N2, matrix_33), axis=1).max()
        radii = np.linspace(0, 1.05 * longest, 4096)
        radius_N = np.interp(angle_N, polynomial(radii), radii, right=np.nan)
    else:
        is_ahead_N = angle_N < _MAX_ANGLE_RAD - 1e-6
        radius_N = np.where(is_ahead_N, np.tan(np.where(is_ahead_N, angle_N, 0)), np.nan)
    plane_N2 = rays_N3[:, :2] / np.maximum(sideways_N, 1e-12)[:, None] * radius_N[:, None]
    return np.asarray(plane_N2 @ matrix_33[:2, :2].T + matrix_33[:2, 2])


def _in_focal_lengths(points_N2: Matrix, matrix_33: Matrix) -> Matrix:
    """Pixels as x / z and y / z of a pinhole's rays."""
    return np.asarray((points_N2 - matrix_33[:2, 2]) @ np.linalg.inv(matrix_33[:2, :2]).T)


def _are_no_rotations(rotations_T33: Matrix) -> NDArray[np.bool_]:
    products_T33 = rotations_T33.transpose(0, 2, 1) @ rotations_T33
    is_skewed_T = np.abs(products_T33 - np.eye(3)).max(axis=(1, 2)) > ROTATION_TOLERANCE
    return np.asarray(is_skewed_T | (np.linalg.det(rotations_T33) < 0))


def _first(is_bad_T: NDArray[np.bool_]) -> int | None:
    """The first frame where something holds; None for nowhere."""
    return int(np.argmax(is_bad_T)) if is_bad_T.any() else None
