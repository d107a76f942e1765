"""Read ``transforms.json``: nerfstudio's, instant-ngp's and DL3DV's.

All write camera-to-world matrices with OpenGL's axes, and lenses once or for each picture.
instant-ngp gives an angle of view in place of a focal length and leaves endings of pictures away;
DL3DV names pictures in ``images`` and ships them scaled, in ``images_4`` or ``images_8``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_cosmos.errors import MissingFileError, SampleError
from post_training.camera.scenes import (
    OPENGL_TO_OPENCV,
    PICTURES,
    Lens,
    Scene,
    Shot,
    checked_pose,
    finite,
)

NAME = "transforms.json"
_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "FULL_OPENCV")
_DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_SCALED = re.compile(r"_(\d+)$")


def read_transforms(file: Path, pictures: Path | None = None, axes: str | None = None) -> Scene:
    """Read a file as a scene.

    Args:
        file: the JSON.
        pictures: the folder that its paths begin at; by default that of the file.
        axes: ``opencv`` or ``opengl``; by default OpenGL's, as the format says.

    Raises:
        MissingFileError: it or a picture does not exist.
        SampleError: it is damaged, or of a lens that is not read.
    """
    data = _read(file)
    axes = axes or "opengl"
    frames = data.get("frames")
    if not isinstance(frames, list) or not frames:
        raise SampleError(
            f"'{file}' has no list 'frames' of pictures with their 'transform_matrix'. Is it a "
            "transforms.json of nerfstudio, instant-ngp or DL3DV?"
        )
    shots = []
    for number, frame in enumerate(frames):
        row = f"frames[{number}]"
        where = f"'{file}', {row}"
        if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
            raise SampleError(f"{where} has no 'file_path'; expected the path of its picture.")
        pose_44 = checked_pose(frame.get("transform_matrix"), where)
        if axes == "opengl":
            pose_44 = pose_44 @ OPENGL_TO_OPENCV
        picture = _find_picture(pictures or file.parent, frame["file_path"], where)
        shots.append(Shot(row, pose_44, _lens({**data, **frame}, picture, where), picture))
    return Scene(file.absolute().parent.name or "scene", file, "transforms", axes, shots)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no file '{file}'.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SampleError(f"'{file}' is not valid JSON: {error}.") from error
    if not isinstance(data, dict):
        raise SampleError(f"'{file}' holds no JSON object; expected one with a list 'frames'.")
    return data


def _find_picture(root: Path, name: str, where: str) -> Path:
    """The picture of a path: as it is, with an ending, or in a folder of scaled pictures."""
    given = root / name
    for candidate in (given, *(given.with_name(given.name + end) for end in sorted(PICTURES))):
        if candidate.is_file():
            return candidate
    scaled = sorted(
        (int(found[1]), place)
        for place in given.parent.parent.glob(f"{given.parent.name}_*")
        if (found := _SCALED.search(place.name)) and place.is_dir()
    )
    for _, place in scaled:  # the largest pictures first
        for candidate in place.glob(f"{given.stem}.*"):
            if candidate.suffix.lower() in PICTURES:
                return candidate
    raise MissingFileError(
        f"{where} names the picture '{name}', which is not in '{root}'. Copy it, or name the "
        "folder that the paths begin at: --images FOLDER."
    )


def _lens(values: Mapping[str, Any], picture: Path, where: str) -> Lens:
    """The lens of a frame, whose values stand before those of the file."""
    model = str(values.get("camera_model") or "PINHOLE")
    if model not in _MODELS or values.get("is_fisheye"):
        raise SampleError(
            f"{where} has the camera model '{model if model not in _MODELS else 'fisheye'}'; read "
            f"are {', '.join(_MODELS)}. Undistort the pictures first."
        )

    def number(name: str) -> float | None:
        found = values.get(name)
        return None if found is None else finite(found, where, f"'{name}'")

    width, height = number("w"), number("h")
    if width is None or height is None:
        width, height = _size_of(picture)
    fx, fy = number("fl_x"), number("fl_y")
    angle_x, angle_y = number("camera_angle_x"), number("camera_angle_y")
    if fx is None and angle_x is not None:
        fx = width / 2 / math.tan(angle_x / 2)
    if fy is None and angle_y is not None:
        fy = height / 2 / math.tan(angle_y / 2)
    fx = fy if fx is None else fx
    if fx is None:
        raise SampleError(
            f"{where} has no focal length: expected 'fl_x' in pixels or 'camera_angle_x' in "
            "radians, there or for the whole file."
        )
    cx, cy = number("cx"), number("cy")
    return Lens.pinhole(
        (fx, fx if fy is None else fy),
        (width / 2 if cx is None else cx, height / 2 if cy is None else cy),
        (height, width),
        [number(name) or 0.0 for name in _DISTORTION],
    )


def _size_of(picture: Path) -> tuple[float, float]:
    """Width and height of a picture, without decoding it."""
    from PIL import Image

    try:
        with Image.open(picture) as image:
            return float(image.width), float(image.height)
    except OSError as error:
        raise SampleError(f"'{picture}' is no picture that can be read: {error}.") from error
