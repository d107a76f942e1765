"""Rigs of cameras as data: the table ``conf/rigs.yaml``, and files of the same form.

    find_rig("six"), find_rig("my_cars.yaml:van")

Shape suffixes: V views; 33 and 44 matrices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import RIG
from nemo_cosmos.data.schema import find_views_fault
from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError, nearest_names

_ENDINGS = (".yaml", ".yml", ".json")
LENSES = ("pinhole", "ftheta")
_KEYS = ("place_m", "yaw_deg", "pitch_deg", "roll_deg", "fov_deg", "lens", "polynomial")
#: Columns: what a camera's x (right), y (down) and z (forward) are for one that looks ahead.
LOOKS_AHEAD_33 = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


@dataclass(frozen=True)
class MountedCamera:
    """One camera of a rig.

    Attributes:
        place_m: where it is on the vehicle: x forward, y left, z up.
        yaw_deg: how far it is turned to the left.
        pitch_deg: how far it looks up.
        roll_deg: how far its picture is turned clockwise.
        fov_deg: angle of view from the left border to the right one.
        polynomial: angle in radians for a radius in focal lengths of an f-theta lens; empty for a
            pinhole.
    """

    place_m: tuple[float, float, float]
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    fov_deg: float = 75.0
    polynomial: tuple[float, ...] = ()

    def pose(self) -> Array:
        """Camera to vehicle, ``(4, 4)``, with OpenCV's axes."""
        from scipy.spatial.transform import Rotation

        turns = Rotation.from_euler(
            "ZYX", [self.yaw_deg, -self.pitch_deg, self.roll_deg], degrees=True
        )
        pose_44 = np.eye(4)
        pose_44[:3, :3] = turns.as_matrix() @ LOOKS_AHEAD_33
        pose_44[:3, 3] = self.place_m
        return pose_44

    def intrinsics(self, height: int, width: int) -> Array:
        """The lens in pixels, ``(3, 3)``, for pictures of a size."""
        half_rad = np.radians(self.fov_deg) / 2
        radius = np.tan(half_rad)
        if self.polynomial:
            radii = np.linspace(0, np.pi, 4096)
            angles = np.polynomial.Polynomial(self.polynomial)(radii)
            radius = float(np.interp(half_rad, angles, radii))
        focal_px = width / 2 / radius
        return np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]])


@dataclass(frozen=True)
class CameraRig:
    """The cameras of a car.

    Attributes:
        name: what people call it.
        cameras: one to seven cameras by the name of their view, in the order of the views.
    """

    name: str
    cameras: Mapping[str, MountedCamera]

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views."""
        return tuple(self.cameras)

    def signal(self, height: int, width: int) -> dict[str, Array]:
        """The rig as ``rig.npz`` for pictures of a size."""
        cameras = self.cameras.values()
        values: dict[str, Array] = {
            "poses": np.stack([one.pose() for one in cameras]),
            "intrinsics": np.stack([one.intrinsics(height, width) for one in cameras]),
            "size": np.tile([float(height), float(width)], (len(cameras), 1)),
            "names": np.array(self.views),
        }
        longest = max(len(one.polynomial) for one in cameras)
        if longest:
            rows = [(*one.polynomial, *[0.0] * (longest - len(one.polynomial))) for one in cameras]
            values["angle_polynomial"] = np.array(rows)
        return values


def find_rig(given: str) -> CameraRig:
    """Return a rig by its name in the table, or as ``FILE`` or ``FILE:NAME``.

    Raises:
        ConfigError: there is none of that name, or a record is wrong; says where.
        MissingFileError: there is no such file.
    """
    file, _, name = given.rpartition(":") if not given.endswith(_ENDINGS) else (given, "", "")
    table = read_rigs(file) if file.endswith(_ENDINGS) else built_in_rigs()
    name = name or given
    if len(table) == 1 and name == given and file:
        return next(iter(table.values()))
    if name not in table:
        place = f"'{file}'" if file else "The table conf/rigs.yaml"
        raise ConfigError(
            f"There is no rig '{name}'. {place} has {nearest_names(name, table, 9)}; one of your "
            "own is FILE.yaml:NAME (docs/driving.md)."
        )
    return table[name]


@cache
def built_in_rigs() -> dict[str, CameraRig]:
    """The table ``conf/rigs.yaml``."""
    from nemo_cosmos.home import conf_folder

    return read_rigs(conf_folder() / "rigs.yaml")


def read_rigs(file: str | PathLike[str]) -> dict[str, CameraRig]:
    """Read a YAML or JSON file: records by their names.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: it is damaged, or a record is wrong; says which.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no file '{file}' of rigs.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"'{file}' cannot be read as YAML: {reason}.") from error
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(
            f"'{file}' holds no rigs; expected names, each with 'cameras', as in conf/rigs.yaml."
        )
    return {str(name): _rig(str(name), record, file) for name, record in content.items()}


def _rig(name: str, record: Any, file: str | PathLike[str]) -> CameraRig:
    place = f"the rig '{name}' in '{file}'"
    cameras = record.get("cameras") if isinstance(record, Mapping) else None
    if not isinstance(cameras, Mapping) or set(record) - {"title", "cameras"}:
        raise ConfigError(
            f"{place} is {record!r:.80}; expected 'cameras' by the names of their views, and "
            "perhaps a 'title'."
        )
    views = tuple(str(view) for view in cameras)
    if (fault := find_views_fault(views)) is not None:
        raise ConfigError(f"{place} has the views {list(views)}, {fault}")
    made = {
        view: _camera(values, f"'{view}' of {place}")
        for view, values in zip(views, cameras.values(), strict=True)
    }
    rig = CameraRig(name, made)
    try:
        RIG.check(rig.signal(720, 1280), 1)
    except SampleError as error:
        raise ConfigError(f"{place} cannot be: {error}") from error
    return rig


def _camera(values: Any, place: str) -> MountedCamera:
    """One camera of a record."""
    if not isinstance(values, Mapping) or set(values) - set(_KEYS) or "place_m" not in values:
        raise ConfigError(
            f"{place} is {values!r:.120}; expected 'place_m' and any of {', '.join(_KEYS[1:])}."
        )
    lens = values.get("lens", "pinhole")
    polynomial = values.get("polynomial", [])
    if lens not in LENSES or (lens == "ftheta") != bool(polynomial):
        raise ConfigError(
            f"{place} has the lens '{lens}' and the polynomial {polynomial}; expected 'pinhole', "
            "or 'ftheta' with the angle in radians for a radius in focal lengths, lowest first."
        )
    numbers = {key: values[key] for key in _KEYS[1:5] if key in values}
    try:
        place_m = tuple(float(number) for number in values["place_m"])
        numbers = {key: float(number) for key, number in numbers.items()}
        bends = tuple(float(number) for number in polynomial)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{place} holds what is no number: {error}.") from error
    fov_deg = numbers.get("fov_deg", 75.0)
    widest_deg = 360 if polynomial else 170
    if len(place_m) != 3 or not np.isfinite([*place_m, *numbers.values(), *bends]).all():
        raise ConfigError(f"{place} needs three finite numbers x, y, z as 'place_m'.")
    if not 1 <= fov_deg <= widest_deg:
        raise ConfigError(f"{place} sees {fov_deg:g} degrees; expected 1 to {widest_deg}.")
    return MountedCamera(place_m, **numbers, polynomial=bends)
