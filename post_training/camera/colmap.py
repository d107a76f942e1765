"""Read COLMAP models, text and binary: ``cameras``, ``images`` and the pictures that they name.

A model has world-to-camera motions with OpenCV's axes, and positions without a unit. Points are not
read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from scipy.spatial.transform import Rotation

from nemo_cosmos.errors import MissingFileError, SampleError
from post_training.camera.scenes import Lens, Matrix, Scene, Shot, checked_pose, finite, inverted

#: Names by their number in binary files, and how many parameters each has.
MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
}
_NUM_PARAMS = dict(MODELS.values())
_ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
_READ = (*_ONE_FOCAL, "PINHOLE", "OPENCV", "FULL_OPENCV")
_SUBFOLDERS = ("", "sparse/0", "sparse", "colmap/sparse/0", "distorted/sparse/0")
_QUATERNION_TOLERANCE = 1e-3


def find_model(folder: Path) -> Path | None:
    """The folder with a model in or below a scene's folder; None where there is none."""
    for name in _SUBFOLDERS:
        for ending in (".bin", ".txt"):
            place = folder / name
            if all((place / f"{part}{ending}").is_file() for part in ("cameras", "images")):
                return place
    return None


def read_colmap(folder: Path, pictures: Path | None = None) -> Scene:
    """Read a model as a scene.

    Args:
        folder: the scene's folder, or that of its model.
        pictures: the folder of the pictures; by default ``images`` in the scene's folder.

    Raises:
        MissingFileError: there is no model, or no folder of pictures.
        SampleError: a file is damaged, or of a lens that is not read.
    """
    model = find_model(folder)
    if model is None:
        raise MissingFileError(
            f"'{folder}' holds no COLMAP model: expected cameras and images as .bin or .txt in it "
            "or in its 'sparse/0'."
        )
    if pictures is None:
        found = [above / "images" for above in (folder, *model.parents[:3])]
        pictures = next((place for place in found if place.is_dir()), None)
        if pictures is None:
            raise MissingFileError(
                f"'{folder}' has no folder 'images' beside its model. Name that of the pictures: "
                "--images FOLDER."
            )
    is_binary = all((model / f"{part}.bin").is_file() for part in ("cameras", "images"))
    lenses = dict((_binary_cameras if is_binary else _text_cameras)(model))
    file = model / ("images.bin" if is_binary else "images.txt")
    shots = []
    images = (_binary_images if is_binary else _text_images)(file)
    for row, quaternion, shift, camera, name in images:
        where = f"'{file}', {row}"
        if camera not in lenses:
            raise SampleError(
                f"{where} has the camera {camera}, which '{model / 'cameras'}' does not list. "
                "Write both files of one model."
            )
        pose_44 = inverted(_motion(quaternion, shift, where))
        shots.append(Shot(row, pose_44, lenses[camera], pictures / name))
    if not shots:
        raise SampleError(f"'{file}' holds no picture. Reconstruct the scene again.")
    return Scene(_key(folder), file, "colmap", "opencv", shots, is_scaled_freely=True)


def _key(folder: Path) -> str:
    """The first name above that says more than where COLMAP puts its models."""
    names = [folder.absolute().name, *(above.name for above in folder.absolute().parents)]
    return next(name for name in (*names, "scene") if name not in ("0", "sparse", "colmap", ""))


def _motion(quaternion: tuple[float, ...], shift: tuple[float, ...], where: str) -> Matrix:
    """World to camera of a quaternion (w first) and a shift."""
    w, *xyz = quaternion
    length = sum(number**2 for number in quaternion) ** 0.5
    if not abs(length - 1) <= _QUATERNION_TOLERANCE:
        raise SampleError(
            f"{where} has a quaternion of length {length:.4g}; expected QW QX QY QZ of length 1. "
            "Is the order of the columns another?"
        )
    rotation_33 = Rotation.from_quat([*xyz, w]).as_matrix()
    return checked_pose(
        [[*line, part] for line, part in zip(rotation_33, shift, strict=True)], where
    )


def make_lens(model: str, params: list[float], size: tuple[float, float], where: str) -> Lens:
    """A lens of COLMAP's parameters.

    Args:
        model: COLMAP's name of it.
        params: its parameters, in COLMAP's order.
        size: height and width in pixels.
        where: file and row, for messages.

    Raises:
        SampleError: the model is not read, or has another number of parameters.
    """
    if model not in _NUM_PARAMS:
        raise SampleError(
            f"{where} has the camera model '{model:.40}', which COLMAP does not have; expected one "
            f"of {', '.join(_NUM_PARAMS)}."
        )
    if model not in _READ:
        raise SampleError(
            f"{where} has the camera model {model}, a lens that bends straight lines far; read are "
            f"{', '.join(_READ)}. Undistort it first: colmap image_undistorter."
        )
    if len(params) != _NUM_PARAMS[model]:
        raise SampleError(
            f"{where} has {len(params)} parameters of {model}; expected {_NUM_PARAMS[model]}."
        )
    if model in _ONE_FOCAL:
        params = [params[0], *params]
    fx, fy, cx, cy, *distortion = params
    return Lens.pinhole((fx, fy), (cx, cy), size, distortion)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without comments."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SampleError(f"'{file}' is no text ({error}). Export the model again.") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.lstrip().startswith("#"):
            yield number, line.strip()


def _text_cameras(model: Path) -> Iterator[tuple[int, Lens]]:
    file = model / "cameras.txt"
    for number, line in _lines(file):
        if not line:
            continue
        where, words = f"'{file}', line {number}", line.split()
        if len(words) < 5:
            raise SampleError(
                f"{where} is '{line:.60}'; expected CAMERA_ID MODEL WIDTH HEIGHT PARAMS."
            )
        identity, width, height, *params = (
            finite(word, where, "a number of the camera") for word in (words[0], *words[2:])
        )
        yield int(identity), make_lens(words[1], params, (height, width), where)


_Image = tuple[str, tuple[float, ...], tuple[float, ...], int, str]


def _text_images(file: Path) -> Iterator[_Image]:
    # Two lines each: the picture, and its points, a line that may be empty.
    lines = list(_lines(file))
    while lines and not lines[0][1]:
        lines.pop(0)
    for number, line in lines[1::2]:
        if len(line.split()) % 3:
            raise SampleError(
                f"'{file}', line {number} is '{line:.60}'; expected the points of the picture in "
                "the line before, X Y POINT3D_ID each, or an empty line."
            )
    for number, line in lines[::2]:
        where, words = f"'{file}', line {number}", line.split(maxsplit=9)
        if not line:
            continue
        if len(words) != 10:
            raise SampleError(
                f"{where} is '{line:.60}'; expected IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, "
                "and a line of points after each (it may be empty)."
            )
        _, *numbers, camera = (finite(word, where, "a number of the picture") for word in words[:9])
        yield f"line {number}", tuple(numbers[:4]), tuple(numbers[4:]), int(camera), words[9]


class _Bytes:
    """A binary file, read number by number."""

    def __init__(self, file: Path) -> None:
        self.file, self.content, self.place = file, file.read_bytes(), 0

    def take(self, form: str) -> tuple[float, ...]:
        """The next numbers, little endian."""
        size = struct.calcsize(f"<{form}")
        if self.place + size > len(self.content):
            raise self.damaged("ends")
        found = struct.unpack_from(f"<{form}", self.content, self.place)
        self.place += size
        return found

    def word(self) -> str:
        """The next word, which a zero ends."""
        end = self.content.find(b"\0", self.place)
        if end < 0:
            raise self.damaged("ends in the middle of a name")
        word = self.content[self.place : end]
        self.place = end + 1
        return word.decode("utf-8", "replace")

    def skip(self, num_bytes: int) -> None:
        if self.place + num_bytes > len(self.content):
            raise self.damaged("ends among a picture's points")
        self.place += num_bytes

    def damaged(self, how: str) -> SampleError:
        return SampleError(
            f"'{self.file}' {how} at byte {self.place} of {len(self.content)}: it is damaged, or "
            "no COLMAP model. Copy it again."
        )


def _binary_cameras(model: Path) -> Iterator[tuple[int, Lens]]:
    data = _Bytes(model / "cameras.bin")
    (count,) = data.take("Q")
    for number in range(int(count)):
        identity, kind, width, height = data.take("IiQQ")
        where = f"'{data.file}', camera {number}"
        if kind not in MODELS:
            raise SampleError(f"{where} has the camera model {kind}, which COLMAP does not have.")
        name, num_params = MODELS[int(kind)]
        params = [finite(part, where, "a parameter") for part in data.take("d" * num_params)]
        yield int(identity), make_lens(name, params, (float(height), float(width)), where)


def _binary_images(file: Path) -> Iterator[_Image]:
    data = _Bytes(file)
    (count,) = data.take("Q")
    for number in range(int(count)):
        _, *motion, camera = data.take("IdddddddI")
        name = data.word()
        (num_points,) = data.take("Q")
        data.skip(24 * int(num_points))
        yield f"picture {number}", tuple(motion[:4]), tuple(motion[4:]), int(camera), name
