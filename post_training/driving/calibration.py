"""The calibration of a real car's cameras as a rig: JSON as it is shipped, or a rig of the table.

The JSON has for each camera ``intrinsics_NAME``, and ``pose_NAME``, a matrix from the camera to the
first camera with OpenCV's axes; the first camera has none. Lenses are f-theta fisheyes (``center``,
``bw_poly``: the angle in radians for a radius in pixels) or pinholes (``fx fy cx cy``) without
distortion.

Shape suffixes: V views; 33 and 44 matrices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import RIG
from nemo_cosmos.controls.camera import ftheta_camera
from nemo_cosmos.errors import MissingFileError, SampleError, nearest_names
from post_training.camera.scenes import checked_pose
from post_training.driving.rigs import LOOKS_AHEAD_33, find_rig

_INTRINSICS, _POSE = "intrinsics_", "pose_"
_SIZE = ("height", "width")
_FTHETA = ("center", "bw_poly")
_PINHOLE = ("fx", "fy", "cx", "cy")
_DISTORTION = re.compile(r"(?:[kps]_?\d|d|.*dist(?:ortion)?(?:_?coeff\w*)?)", re.IGNORECASE)
"""Names of an entry that bends a lens otherwise than its model says."""
_SAME_SHAPE = 0.03
"""Pictures whose width for a height differs by more have been cut since they were calibrated."""


def read_calibration(
    given: str,
    cameras: Mapping[str, str],
    size: tuple[int, int],
    mount_m: Sequence[float] = (0.0, 0.0, 0.0),
) -> dict[str, Array]:
    """Read the rig of some views, as ``rig.npz`` for pictures of the calibrated size.

    Args:
        given: a JSON file, or a rig of ``conf/rigs.yaml`` or ``FILE.yaml:NAME``.
        cameras: the calibration's name of the camera of each view.
        size: height and width of the views' pictures. A rig of the table is made for them; those of
            a JSON must have their shape.
        mount_m: where the first camera is on the vehicle (x forward, y left, z up); a JSON does not
            say it.

    Raises:
        MissingFileError: there is no such file.
        SampleError: a camera is missing, of an unknown model, or has a pose that is no rotation;
            names file and entry.
        ConfigError: a rig is unknown.
    """
    if not given.endswith(".json"):
        return _of_table(given, cameras, size)
    data = _read(Path(given))
    poses: list[Array] = []
    matrices: list[Array] = []
    sizes: list[Array] = []
    polynomials: list[Array] = []
    mounted_44 = np.eye(4)
    mounted_44[:3, :3], mounted_44[:3, 3] = LOOKS_AHEAD_33, mount_m
    for name in cameras.values():
        where = f"'{given}', '{_POSE}{name}'"
        if f"{_INTRINSICS}{name}" not in data:
            known = [key.removeprefix(_INTRINSICS) for key in data if key.startswith(_INTRINSICS)]
            raise SampleError(
                f"'{given}' has no camera '{name}' ('{_INTRINSICS}{name}'); it has "
                f"{nearest_names(name, known, 9)}. Write VIEW=CAMERA to name another."
            )
        pose = data.get(f"{_POSE}{name}")
        if pose is None and poses:
            raise SampleError(
                f"{where} is missing: only the first camera, which the poses lead to, has none. "
                "Add the matrix from this camera to the first one."
            )
        pose_44 = np.eye(4) if pose is None else checked_pose(pose, where)
        poses.append(mounted_44 @ pose_44)
        entry = f"'{given}', '{_INTRINSICS}{name}'"
        lens = _lens(data[f"{_INTRINSICS}{name}"], entry)
        _check_shape(tuple(lens["size"]), size, entry)
        matrices.append(lens["intrinsics"][0])
        sizes.append(lens["size"])
        polynomials.append(lens.get("angle_polynomial", np.zeros(0)))
    values: dict[str, Array] = {
        "poses": np.stack(poses),
        "intrinsics": np.stack(matrices),
        "size": np.stack(sizes),
        "names": np.array(list(cameras)),
    }
    longest = max(map(len, polynomials))
    if longest:
        values["angle_polynomial"] = np.stack(
            [np.pad(one, (0, longest - len(one))) for one in polynomials]
        )
    RIG.check(values, 1, f"'{given}'")
    return values


def _of_table(given: str, cameras: Mapping[str, str], size: tuple[int, int]) -> dict[str, Array]:
    """A rig of the table, for pictures of a size."""
    rig = find_rig(given)
    missing = [name for name in cameras.values() if name not in rig.cameras]
    if missing:
        raise SampleError(
            f"The rig '{given}' has no camera '{missing[0]}'; it has "
            f"{nearest_names(missing[0], rig.views, 9)}. Write VIEW=CAMERA to name another."
        )
    values = rig.signal(*size)
    rows = [rig.views.index(name) for name in cameras.values()]
    chosen = {name: array[rows] for name, array in values.items()}
    return {**chosen, "names": np.array(list(cameras))}


def _read(file: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no calibration '{file}'.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SampleError(f"'{file}' is not valid JSON: {error}.") from error
    if not isinstance(data, dict):
        raise SampleError(
            f"'{file}' holds no JSON object; expected '{_INTRINSICS}NAME' and '{_POSE}NAME' of "
            "each camera."
        )
    return data


def _lens(values: Any, where: str) -> dict[str, Array]:
    """The lens of one camera as in ``camera.npz``, of one frame."""
    names = set(values) if isinstance(values, Mapping) else set()
    is_ftheta, is_pinhole = ({*_SIZE, *needed} <= names for needed in (_FTHETA, _PINHOLE))
    model = str(values.get("model", "")) if isinstance(values, Mapping) else ""
    if not (is_ftheta or is_pinhole) or model.lower() not in ("", "ftheta", "f-theta", "pinhole"):
        said = f" of the model '{model}'" if model else ""
        raise SampleError(
            f"{where} is a lens{said} with {', '.join(sorted(names)) or 'no entries'}, which is "
            f"not read; expected {', '.join(_SIZE)} with {' and '.join(_FTHETA)} (f-theta) or "
            f"{', '.join(_PINHOLE)} (pinhole). Undistort the videos, or convert the calibration."
        )
    bends = [name for name in names if _DISTORTION.fullmatch(name) and np.any(values[name])]
    if bends:
        raise SampleError(
            f"{where} has the distortion '{bends[0]}', which is not read; expected a lens without. "
            "Undistort the videos, and write the calibration of those."
        )
    polynomial = _numbers(values, "bw_poly", where) if is_ftheta else ()
    if is_ftheta and (len(polynomial) < 2 or not polynomial[1] > 0):
        raise SampleError(
            f"{where} has the 'bw_poly' {list(polynomial)}; expected the angle in radians for a "
            "radius in pixels, lowest coefficient first, with a positive second one."
        )
    size = (*_numbers(values, "height", where), *_numbers(values, "width", where))
    if min(size) <= 0:
        raise SampleError(f"{where} is of pictures of {size[0]:g}x{size[1]:g}; expected pixels.")
    if is_ftheta:
        centre = _numbers(values, "center", where)
        if len(centre) != 2:
            raise SampleError(
                f"{where} has the 'center' {list(centre)}; expected x and y in pixels."
            )
        return ftheta_camera(np.eye(4)[None], centre, (size[0], size[1]), polynomial)
    fx, fy, cx, cy = (_numbers(values, name, where)[0] for name in _PINHOLE)
    matrix_33 = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return {"intrinsics": matrix_33[None], "size": np.array(size)}


def _numbers(values: Mapping[str, Any], name: str, where: str) -> tuple[float, ...]:
    """The finite numbers of an entry."""
    try:
        numbers = np.array(values[name], np.float64).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.array([np.nan])
    if not np.isfinite(numbers).all():
        raise SampleError(
            f"{where} has {values[name]!r:.60} as '{name}'; expected finite numbers. Write them "
            "again."
        )
    return tuple(numbers.tolist())


def _check_shape(calibrated: tuple[float, ...], size: tuple[int, int], where: str) -> None:
    """Refuse pictures that were cut since they were calibrated: where is unknown."""
    wanted, found = calibrated[1] / calibrated[0], size[1] / size[0]
    if abs(found / wanted - 1) > _SAME_SHAPE:
        raise SampleError(
            f"{where} is of pictures of {calibrated[0]:g}x{calibrated[1]:g}, and the videos are "
            f"{size[0]}x{size[1]}: of another shape, so that a part was cut off. Write the "
            "calibration of the pictures as they are."
        )
