"""The frames of a scene: in order, without gaps, without distortion, with the lens that they have.

Shape suffixes: T frames; 33 and 44 matrices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array
from nemo_cosmos.controls import fit_camera
from nemo_cosmos.errors import MissingFileError, SampleError, counted
from nemo_cosmos.video import decode, index_frames, read_image
from nemo_cosmos.video.resize import resize_frames
from post_training.camera.scenes import PICTURES, Scene, Shot

_SAME_ASPECT = 0.01
_NUMBER = re.compile(r"(\d+)")


def split_at_gaps(scene: Scene) -> Iterator[list[Shot]]:
    """Stretches of a scene whose pictures follow each other evenly, in order.

    Pictures are counted in their folder. Every third one, say, is even, too.

    Args:
        scene: the scene.

    Raises:
        SampleError: a picture has two cameras, or no two pictures follow each other.
    """
    if scene.video is not None or scene.fps is not None:  # their times were looked at
        yield list(scene.shots)
        return
    order = sorted(scene.shots, key=lambda shot: _natural(shot.picture))
    places = _places(order)
    steps = np.diff(places)
    for before, shot, step in zip(order, order[1:], steps, strict=False):
        if not step:
            raise SampleError(
                f"'{scene.file}', {before.row} and {shot.row} are both of the picture "
                f"'{shot.picture}'. Expected one camera for each; delete the wrong one."
            )
    usual = int(np.median(steps)) if len(steps) else 1
    stretches = [order[:1]]
    for shot, step in zip(order[1:], steps, strict=True):
        if step == usual:
            stretches[-1].append(shot)
        else:
            stretches.append([shot])
    found = [stretch for stretch in stretches if len(stretch) > 1]
    if not found:
        raise SampleError(
            f"'{scene.file}' has cameras for {counted(len(order), 'picture')}, no two of which "
            "follow each other in their folder. A path needs a video's frames in order."
        )
    yield from found


def _places(order: Sequence[Shot]) -> NDArray[np.int64]:
    """Number of each picture among all in its folder."""
    listed: dict[Path, dict[str, int]] = {}
    places = []
    for shot in order:
        assert shot.picture is not None
        folder = shot.picture.parent
        if folder not in listed:
            files = folder.iterdir() if folder.is_dir() else ()
            names = [file for file in files if file.suffix.lower() in PICTURES]
            listed[folder] = {
                file.name: number for number, file in enumerate(sorted(names, key=_natural))
            }
        if shot.picture.name not in listed[folder]:
            raise MissingFileError(
                f"There is no picture '{shot.picture}', whose camera is in {shot.row}. Copy it, or "
                "name the folder of the pictures: --images FOLDER."
            )
        places.append(listed[folder][shot.picture.name])
    return np.array(places, np.int64)


def _natural(file: Path | None) -> list[tuple[int, int, str]]:
    """A key by which ``frame_10`` comes behind ``frame_9``."""
    parts = _NUMBER.split(str(file))
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


def read_stretch(
    scene: Scene, stretch: Sequence[Shot], size: tuple[int, int] | None = None
) -> tuple[NDArray[np.uint8], dict[str, Array]]:
    """Frames without distortion ``(T, H, W, 3)``, and the camera of those.

    Args:
        scene: the scene.
        stretch: shots of it.
        size: height and width to resize to.

    Raises:
        SampleError: pictures of several sizes, or of another aspect than their camera's.
        VideoError: a picture cannot be decoded.
    """
    frames: list[NDArray[np.uint8]] = []
    matrices: list[NDArray[np.float64]] = []
    for shot, picture_HWC in zip(stretch, _pictures(scene, stretch), strict=True):
        where = f"'{scene.file}', {shot.row}"
        matrix_33 = _scaled_lens(shot, picture_HWC.shape[:2], where)
        picture_HWC, matrix_33 = undistorted(picture_HWC, matrix_33, shot.lens.distortion)
        found = picture_HWC.shape[:2]
        if size is not None:
            lens = {"intrinsics": matrix_33[None], "size": np.array(found)}
            matrix_33 = fit_camera(lens, size)["intrinsics"][0]
            picture_HWC = resize_frames(picture_HWC[None], size)[0]
        if frames and picture_HWC.shape != frames[0].shape:
            raise SampleError(
                f"{where} is of a picture of {found[0]}x{found[1]} pixels (height x width), the "
                f"first one of {frames[0].shape[0]}x{frames[0].shape[1]}. A video has one size; "
                "give --size to resize all."
            )
        frames.append(picture_HWC)
        matrices.append(matrix_33)
    poses_T44 = np.stack([shot.pose_44 for shot in stretch])
    values: dict[str, Array] = {
        "poses": poses_T44,
        "intrinsics": np.stack(matrices),
        "size": np.array(frames[0].shape[:2]),
    }
    return _even(np.stack(frames), values)


def _even(
    frames_THWC: NDArray[np.uint8], values: dict[str, Array]
) -> tuple[NDArray[np.uint8], dict[str, Array]]:
    """Without the last row and column where their number is odd, which video cannot hold."""
    height, width = (side // 2 * 2 for side in frames_THWC.shape[1:3])
    cut_THWC = np.ascontiguousarray(frames_THWC[:, :height, :width])
    return cut_THWC, {**values, "size": np.array([height, width])}


def _pictures(scene: Scene, stretch: Sequence[Shot]) -> Iterator[NDArray[np.uint8]]:
    if scene.video is None:
        for shot in stretch:
            assert shot.picture is not None
            yield read_image(shot.picture).frames_THWC[0]
        return
    index = index_frames(scene.video)
    times_s = np.array([shot.time_s for shot in stretch])
    tolerance_s = 1 / index.info.fps
    if times_s[-1] > index.pts_s[-1] + tolerance_s:
        raise SampleError(
            f"'{scene.file}', {stretch[-1].row} is {times_s[-1]:g} s into '{scene.video}', which "
            f"ends after {index.pts_s[-1]:g} s. Download the whole video."
        )
    numbers = np.abs(index.pts_s[None] - times_s[:, None]).argmin(axis=1)
    yield from decode(scene.video, frame_indices=numbers, index=index).frames_THWC


def _scaled_lens(shot: Shot, size: tuple[int, ...], where: str) -> NDArray[np.float64]:
    """The lens in the pixels of the picture as it is, which may be a scaled one."""
    height, width = shot.lens.size
    is_of_any = (height, width) == (1.0, 1.0)
    if not is_of_any and not abs(width / height * size[0] / size[1] - 1) <= _SAME_ASPECT:
        raise SampleError(
            f"{where} is a camera of {height:g}x{width:g} pixels (height x width), but its picture "
            f"has {size[0]}x{size[1]}. Expected the same aspect; is the picture turned or cropped?"
        )
    lens = {"intrinsics": shot.lens.matrix_33[None], "size": np.array([height, width])}
    return np.asarray(fit_camera(lens, (size[0], size[1]))["intrinsics"][0], np.float64)


def undistorted(
    picture_HWC: NDArray[np.uint8], matrix_33: NDArray[np.float64], distortion: Sequence[float]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A picture as a pinhole sees it, without empty borders, and that pinhole.

    Args:
        picture_HWC: the picture.
        matrix_33: its lens; pixels from the picture's upper left corner.
        distortion: OpenCV's coefficients; none for a picture that is a pinhole's.
    """
    if not distortion:
        return picture_HWC, matrix_33
    height, width = picture_HWC.shape[:2]
    half_pixel = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # OpenCV counts from its middle
    centred_33, coefficients = matrix_33 - half_pixel, np.array(distortion, np.float64)
    new_33, _ = cv2.getOptimalNewCameraMatrix(
        centred_33, coefficients, (width, height), 0, (width, height)
    )
    made = cv2.undistort(picture_HWC, centred_33, coefficients, None, new_33)
    return np.asarray(made, np.uint8), np.asarray(new_33, np.float64) + half_pixel
