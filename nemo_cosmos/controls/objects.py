"""What a simulator knows of the objects in its video, as the signal ``objects.npz``.

It steers no model; metrics compare generated videos with it. N objects move in the vertical plane
``y = 0``; world axes: x leads to the right of the picture, y away from the camera, z up.
"""

from __future__ import annotations

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls.change import PictureChange
from nemo_cosmos.controls.mirror import mirror_points
from nemo_cosmos.controls.signal import Signal
from nemo_cosmos.controls.signal_array import SignalArray
from nemo_cosmos.controls.signal_files import Values


def find_objects_fault(values: Values) -> str | None:
    """Say what is wrong with objects whose arrays have the right shapes; None where nothing is.

    Args:
        values: the arrays of ``objects.npz``.
    """
    num = len(values["mass_kg"])
    counts = {name: np.shape(values[name])[1] for name in _BY_OBJECT}
    counts["height_m"] = len(values["height_m"])
    wrong = [name for name, count in counts.items() if count != num]
    if wrong or not num:
        return (
            f"has {num} masses and {counts[wrong[0]] if wrong else 0} objects in "
            f"'{wrong[0] if wrong else 'position_m'}'; expected one row for each object, and at "
            "least one object. Write the file again, or leave it out."
        )
    if np.shape(values["other_position_m"])[1] not in (0, num):
        return f"has no 'other_position_m' of all {num} objects, nor of none. Write all, or none."
    if np.asarray(values["mask"]).max(initial=0) > num:
        return f"has a mask of an object beyond the {num} that have masses. Number them from 1."
    if (np.asarray(values["mass_kg"]) <= 0).any() or (np.asarray(values["height_m"]) <= 0).any():
        return "has an object without mass or height; expected positive numbers of kg and m."
    if (np.diff(values["time_s"]) <= 0).any():
        return "has a 'time_s' that does not grow; expected seconds since the first frame."
    projection = np.asarray(values["projection"], np.float64)
    if abs(np.linalg.det(projection[:, [0, 2, 3]])) < _MIN_DETERMINANT:
        return (
            "has a degenerate 'projection', which sees the plane of motion from its edge; expected "
            "the camera's matrix from the world to picture coordinates of 0 to 1."
        )
    return None


_BY_OBJECT = (
    "position_m",
    "velocity_m_s",
    "rotation_rad",
    "energy_j",
    "touches",
    "visible_fraction",
    "is_whole",
)
_MIN_DETERMINANT = 1e-9
_X = 0


def fit_objects(
    values: Values, outer: tuple[int, int], size: tuple[int, int] | None = None
) -> dict[str, Array]:
    """The objects of frames that were resized, and then cropped or padded around their middle.

    Args:
        values: the arrays of ``objects.npz``.
        outer: height and width that the frames were resized to.
        size: height and width that were cut out of their middle, or that they were padded to; by
            default all.
    """
    size = size or outer
    # As video.resize crops and pads: whole pixels, an odd one at the far side.
    top, left = (int((whole - kept) / 2) for whole, kept in zip(outer, size, strict=True))
    return _cut(values, outer, top, left, size)


def follow_picture(values: Values, change: PictureChange) -> Values:
    """The objects in pictures that are cut, or of the mirrored world.

    The plane of motion is ``y = 0``, so that the world can be mirrored in x alone.

    Args:
        values: the arrays of ``objects.npz``.
        change: what becomes of the pictures.
    """
    top, left, _, _ = change.box
    cut = _cut(values, change.size, top, left, change.kept_size)
    if not change.is_mirrored:
        return cut
    mirrored = {
        name: mirror_points(cut[name], _X)
        for name in ("position_m", "velocity_m_s", "other_position_m")
    }
    projection = cut["projection"].copy()
    projection[0] = projection[2] - projection[0]  # from the left becomes from the right
    projection[:, _X] *= -1
    support_N2 = np.asarray(cut["support_m"])[::-1] * [-1, 1]
    return cut | mirrored | {
        "rotation_rad": -np.asarray(cut["rotation_rad"]),
        "mask": np.ascontiguousarray(cut["mask"][:, :, ::-1]),
        "support_m": support_N2.astype(cut["support_m"].dtype),
        "projection": projection,
    }  # fmt: skip


def _cut(
    values: Values, outer: tuple[int, int], top: int, left: int, size: tuple[int, int]
) -> dict[str, Array]:
    """The objects of frames that were resized to ``outer``, and of which a part is kept."""
    mask_THW = _nearest(np.asarray(values["mask"]), outer)
    cut_THW = _window(mask_THW, top, left, size)
    num = len(values["mass_kg"])
    before_TN, after_TN = (_areas(masks, num) for masks in (mask_THW, cut_THW))
    kept_TN = after_TN / np.maximum(before_TN, 1)
    border_THW = cut_THW.copy()
    border_THW[:, 1:-1, 1:-1] = 0
    # Of an uncut picture the recording knows better than the mask what the border cuts.
    is_cut_TN = (_areas(border_THW, num) > 0) if tuple(size) != tuple(outer) else False
    projection = np.array(values["projection"], np.float64)
    for row, (whole, kept, corner) in enumerate(
        ((outer[1], size[1], left), (outer[0], size[0], top))
    ):
        projection[row] = (projection[row] * whole - projection[2] * corner) / kept
    return dict(values) | {
        "mask": cut_THW,
        "visible_fraction": np.asarray(values["visible_fraction"]) * kept_TN,
        "is_whole": (np.asarray(values["is_whole"], bool) & ~np.asarray(is_cut_TN)).astype(
            np.uint8
        ),
        "projection": projection,
    }


OBJECTS = Signal(
    "objects.npz",
    (
        SignalArray("time_s", "frame", (), units="s", convention="since the first frame"),
        SignalArray("position_m", "frame", (None, 3), units="m", convention="centre, x y z"),
        SignalArray("velocity_m_s", "frame", (None, 3), units="m/s", convention="of the centre"),
        SignalArray("rotation_rad", "frame", (None,), units="rad", convention="clockwise as seen"),
        SignalArray(
            "energy_j",
            "frame",
            (None, 3),
            units="J",
            convention="kinetic of the motion, kinetic of the rotation, potential above z = 0",
        ),
        SignalArray("touches", "frame", (None,), convention="1 where it rests on floor or ramp"),
        SignalArray("mask", "frame", (None, None), convention="number of the object, from 1; or 0"),
        SignalArray("visible_fraction", "frame", (None,), convention="of its outline in view"),
        SignalArray("is_whole", "frame", (None,), convention="1 where all of it is in view"),
        SignalArray(
            "other_position_m",
            "frame",
            (None, 3),
            units="m",
            convention="centres after another push from the same start; of no object: no pair",
        ),
        SignalArray("mass_kg", None, (None,), units="kg"),
        SignalArray("height_m", None, (None,), units="m", convention="of each object at rest"),
        SignalArray("support_m", None, (None, 2), units="m", convention="x, height of the ground"),
        SignalArray(
            "projection",
            None,
            (3, 4),
            convention="world to homogeneous picture coordinates, (0, 0) top left, (1, 1) bottom "
            "right",
        ),
    ),
    find_objects_fault,
    in_picture=follow_picture,
)


def _nearest(mask_THW: Array, size: tuple[int, int]) -> Array:
    """Masks at another size."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for new, old in zip(size, mask_THW.shape[1:], strict=True)
    )
    return mask_THW[:, rows[:, None], columns]


def _window(mask_THW: Array, top: int, left: int, size: tuple[int, int]) -> Array:
    """A part of masks; beyond them no object."""
    result = np.zeros((len(mask_THW), *size), mask_THW.dtype)
    height, width = mask_THW.shape[1:]
    into = (slice(max(-top, 0), min(height - top, size[0])),
            slice(max(-left, 0), min(width - left, size[1])))  # fmt: skip
    source = (slice(max(top, 0), top + into[0].stop), slice(max(left, 0), left + into[1].stop))
    result[:, into[0], into[1]] = mask_THW[:, source[0], source[1]]
    return result


def _areas(mask_THW: Array, num: int) -> Array:
    """Pixels of each object at each frame, ``(T, N)``."""
    return np.stack([(mask_THW == number).sum((1, 2)) for number in range(1, num + 1)], axis=1)
