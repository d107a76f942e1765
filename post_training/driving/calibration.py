"""The calibration of a real car's cameras as a rig: JSON as it is shipped, or a rig of the table.

The JSON has for each camera ``intrinsics_NAME``, and ``pose_NAME``, a matrix from the camera to the
first camera with OpenCV's axes; the first camera has none. Lenses are f-theta fisheyes (``center``,
``bw_poly``: the angle in radians for a radius in pixels) or pinholes (``fx fy cx cy``).

Shape suffixes: V views; 33 and 44 matrices.
"""

from __future__ import annotations

import json
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


def read_calibration(
    given: str, cameras: Mapping[str, str], mount_m: Sequence[float] = (0.0, 0.0, 0.0)
) -> dict[str, Array]:
    """Read the rig of some views, as ``rig.npz`` for pictures of the calibrated size.

    Args:
        given: a JSON file, or a rig of ``conf/rigs.yaml`` or ``FILE.yaml:NAME``.
        cameras: the calibration's name of the camera of each view.
        mount_m: where the first camera is on the vehicle (x forward, y left, z up); a JSON does not
            say it.

    Raises:
        MissingFileError: there is no such file.
        SampleError: a camera is missing, of an unknown model, or has a pose that is no rotation;
            names file and entry.
        ConfigError: a rig is unknown.
    """
    if not given.endswith(".json"):
        return _of_table(given, cameras)
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
        lens = _lens(data[f"{_INTRINSICS}{name}"], f"'{given}', '{_INTRINSICS}{name}'")
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


def _of_table(given: str, cameras: Mapping[str, str]) -> dict[str, Array]:
    """A rig of the table, for pictures of 720x1280."""
    rig = find_rig(given)
    missing = [name for name in cameras.values() if name not in rig.cameras]
    if missing:
        raise SampleError(
            f"The rig '{given}' has no camera '{missing[0]}'; it has "
            f"{nearest_names(missing[0], rig.views, 9)}. Write VIEW=CAMERA to name another."
        )
    values = rig.signal(720, 1280)
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
    try:
        size = (float(values["height"]), float(values["width"]))
        if is_ftheta:
            centre = [float(number) for number in values["center"]]
            polynomial = [float(number) for number in values["bw_poly"]]
            return ftheta_camera(np.eye(4)[None], centre, size, polynomial)
        fx, fy, cx, cy = (float(values[name]) for name in _PINHOLE)
    except (TypeError, ValueError) as error:
        raise SampleError(f"{where} holds what is no number: {error}.") from error
    matrix_33 = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return {"intrinsics": matrix_33[None], "size": np.array(size)}
