"""The same drive-by in every format: what comes out is the camera that filmed it."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nemo_cosmos.controls import CAMERA
from nemo_cosmos.errors import ConfigError, MissingFileError
from nemo_cosmos.video import Video, decode, encode_video
from post_training.camera.conversion import Reading, convert_cameras, find_scenes
from post_training.camera.frames import undistorted
from post_training.camera.moves import camera_path, parse_move
from post_training.camera.scenes import OPENGL_TO_OPENCV
from post_training.conversion import ConversionReport

NUM_FRAMES, SIZE = 8, (120, 160)
IMAGES, CAMERAS = "sparse/0/images.txt", "sparse/0/cameras.txt"
LENS = np.array([[150.0, 0, 82], [0, 148, 58], [0, 0, 1]])
#: Where the world of the files is, seen from that of the path: another origin, other axes.
WORLD = np.eye(4)
WORLD[:3, :3] = Rotation.from_euler("xyz", [40, -70, 15], degrees=True).as_matrix()
WORLD[:3, 3] = [2, -1, 5]
PATH = camera_path([parse_move("pan:6+pedestal:0.5+dolly:0.3")], NUM_FRAMES)
POSES = WORLD @ PATH


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """What the camera sees of a painted wall four metres away."""
    rng = np.random.default_rng(0)
    wall = cv2.resize(rng.integers(0, 256, (40, 53, 3), np.uint8), (800, 600))
    per_m = 100
    paint = np.array([[1, 0, -400], [0, 1, -300], [0, 0, 4 * per_m]]) / per_m
    centred = LENS - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    seen = []
    for pose_44 in PATH:
        moved = paint - np.outer(pose_44[:3, 3], [0, 0, 1])
        seen.append(cv2.warpPerspective(wall, centred @ pose_44[:3, :3].T @ moved, SIZE[::-1]))
    return np.stack(seen)


def write_pictures(folder: Path, frames: np.ndarray, names: list[str] | None = None) -> list[str]:
    folder.mkdir(parents=True)
    names = names or [f"frame_{number}.png" for number in range(7, 7 + len(frames))]
    for name, frame_HWC in zip(names, frames, strict=True):
        cv2.imwrite(str(folder / name), cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR))
    return names


def motions() -> list[tuple[np.ndarray, np.ndarray]]:
    """Quaternion, w first, and shift of each world-to-camera motion."""
    inverse = np.linalg.inv(POSES)
    quaternions = Rotation.from_matrix(inverse[:, :3, :3]).as_quat()
    return [(q[[3, 0, 1, 2]], t) for q, t in zip(quaternions, inverse[:, :3, 3], strict=True)]


def colmap_text(folder: Path, frames: np.ndarray) -> None:
    names = write_pictures(folder / "images", frames)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    fx, fy, cx, cy = LENS[0, 0], LENS[1, 1], LENS[0, 2], LENS[1, 2]
    (model / "cameras.txt").write_text(
        f"# Camera list\n3 OPENCV {SIZE[1]} {SIZE[0]} {fx} {fy} {cx} {cy} 0 0 0 0\n"
    )
    lines = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME"]
    rows = list(zip(names, motions(), strict=True))
    for number, (name, (q, t)) in enumerate(rows[::-1]):  # in no order
        lines += [f"{number} {' '.join(map(repr, map(float, [*q, *t])))} 3 {name}"]
        lines += ["" if number % 2 else "10.5 20.5 -1 30 40 7"]
    (model / "images.txt").write_text("\n".join(lines) + "\n")


def colmap_binary(folder: Path, frames: np.ndarray) -> None:
    names = write_pictures(folder / "images", frames)
    parts = [LENS[0, 0], LENS[1, 1], LENS[0, 2], LENS[1, 2]]
    cameras = struct.pack("<QIiQQ4d", 1, 3, 1, SIZE[1], SIZE[0], *parts)
    images = struct.pack("<Q", NUM_FRAMES)
    for number, (name, (q, t)) in enumerate(zip(names, motions(), strict=True)):
        images += struct.pack("<I7dI", number, *q, *t, 3) + name.encode() + b"\0"
        images += struct.pack("<Q", 1) + struct.pack("<ddq", 10, 20, 5)
    (folder / "cameras.bin").write_bytes(cameras)
    (folder / "images.bin").write_bytes(images)


def opengl(scale: float = 1.0) -> list[list[list[float]]]:
    poses = POSES @ OPENGL_TO_OPENCV
    poses[:, :3, 3] *= scale
    return poses.tolist()


def lens(scale: float = 1.0) -> dict[str, Any]:
    names = {"fl_x": LENS[0, 0], "fl_y": LENS[1, 1], "cx": LENS[0, 2], "cy": LENS[1, 2]}
    names |= {"w": SIZE[1], "h": SIZE[0]}
    return {name: scale * float(value) for name, value in names.items()}


def write_transforms(
    folder: Path, paths: list[str], matrices: list[Any], **values: Any
) -> dict[str, Any]:
    rows = [
        {"file_path": path, "transform_matrix": matrix}
        for path, matrix in zip(paths, matrices, strict=True)
    ]
    data = {**values, "frames": rows[::-1]}  # in no order
    (folder / "transforms.json").write_text(json.dumps(data))
    return data


def nerfstudio(folder: Path, frames: np.ndarray) -> None:
    names = write_pictures(folder / "images", frames)
    paths = [f"images/{name}" for name in names]
    write_transforms(folder, paths, opengl(), camera_model="OPENCV", k1=0.0, **lens())


def instant_ngp(folder: Path, frames: np.ndarray) -> None:
    """Angles of view in place of focal lengths, no size, no endings."""
    names = write_pictures(folder / "images", frames)
    values = {"camera_angle_x": 2 * np.arctan(SIZE[1] / 2 / LENS[0, 0])}
    values |= {"camera_angle_y": 2 * np.arctan(SIZE[0] / 2 / LENS[1, 1])}
    values |= {"cx": LENS[0, 2], "cy": LENS[1, 2], "aabb_scale": 16}
    write_transforms(folder, [f"./images/{Path(n).stem}" for n in names], opengl(), **values)


def dl3dv(folder: Path, frames: np.ndarray) -> None:
    """A camera of large pictures, beside which lie small ones."""
    names = write_pictures(folder / "images_4", frames)
    paths = [f"images/{name}" for name in names]
    write_transforms(folder, paths, opengl(), camera_model="OPENCV", **lens(4.0))


def estate_text() -> str:
    sides = np.array([SIZE[1], SIZE[0], SIZE[1], SIZE[0]])
    numbers = LENS[[0, 1, 0, 1], [0, 1, 2, 2]] / sides
    lines = ["https://www.youtube.com/watch?v=abc"]
    for number, matrix in enumerate(np.linalg.inv(POSES)):
        row = [*numbers, 0, 0, *matrix[:3].ravel()]
        lines.append(f"{500_000 + 100_000 * number} {' '.join(map(repr, map(float, row)))}")
    return "\n".join(lines) + "\n"


def estate_pictures(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scene.txt").write_text(estate_text())
    names = [f"{500_000 + 100_000 * number}.png" for number in range(NUM_FRAMES)]
    write_pictures(folder / "scene", frames, names)


def estate_video(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scene.txt").write_text(estate_text())
    before = np.zeros((5, *SIZE, 3), np.uint8)  # half a second
    encode_video(folder / "scene.mp4", Video(np.concatenate([before, frames]), 10.0), crf=8)


def estate_without_address(folder: Path, frames: np.ndarray) -> None:
    estate_pictures(folder, frames)
    (folder / "scene.txt").write_text(estate_text().split("\n", 1)[1])


Writer = Callable[[Path, np.ndarray], None]
FORMATS: Mapping[str, Writer] = {
    "colmap text": colmap_text,
    "colmap binary": colmap_binary,
    "nerfstudio": nerfstudio,
    "instant-ngp": instant_ngp,
    "dl3dv": dl3dv,
    "realestate10k pictures": estate_pictures,
    "realestate10k video": estate_video,
    "realestate10k without address": estate_without_address,
}


def convert(tmp_path: Path, **reading: Any) -> ConversionReport:
    return convert_cameras(tmp_path / "scene", tmp_path / "out", Reading(**reading))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_camera_that_filmed(name, frames, tmp_path):
    scene = tmp_path / "scene"
    scene.mkdir()
    FORMATS[name](scene, frames)
    report = convert(tmp_path)
    assert (report.num_converted, report.rejected) == (1, {})
    out = tmp_path / "out" / "scene"
    made = CAMERA.values(out.with_suffix(".camera.npz"))
    CAMERA.check(made, NUM_FRAMES)
    relative = np.linalg.inv(made["poses"][0]) @ made["poses"]
    np.testing.assert_allclose(relative, PATH, atol=1e-6)
    np.testing.assert_allclose(made["intrinsics"], np.tile(LENS, (NUM_FRAMES, 1, 1)), atol=1e-6)
    assert made["size"].tolist() == list(SIZE)
    shown = decode(out.with_suffix(".mp4")).frames_THWC.astype(int)
    assert np.abs(shown - frames).mean() < 15, "the pictures are in order"
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["fps"] == pytest.approx(10 if "estate" in name else 30)
    assert "points lie" in record["camera"]["axes"]


def test_a_folder_of_scenes_is_resized_and_a_second_run_makes_what_is_missing(frames, tmp_path):
    for name, write in (("a", nerfstudio), ("b", colmap_text)):
        write(tmp_path / "scene" / name, frames)
    report = convert(tmp_path, size=(60, 96))
    assert report.num_converted == 2 and not report.num_reused
    made = CAMERA.values(tmp_path / "out" / "b.camera.npz")
    assert made["size"].tolist() == [60, 96]
    np.testing.assert_allclose(made["intrinsics"][0, 0, 0], LENS[0, 0] * 96 / 160)
    assert decode(tmp_path / "out" / "b.mp4").frames_THWC.shape == (NUM_FRAMES, 60, 96, 3)
    assert convert(tmp_path, size=(60, 96)).num_reused == 2
    with pytest.raises(ConfigError, match="other settings"):
        convert(tmp_path)


def test_pictures_that_tell_of_other_axes_are_refused_and_named(frames, tmp_path):
    scene = tmp_path / "scene"
    paths = [f"images/{name}" for name in write_pictures(scene / "images", frames)]
    write_transforms(scene, paths, POSES.tolist(), **lens())  # OpenCV's axes in an OpenGL file
    (reason,) = convert(tmp_path).rejected.values()
    assert "do not fit cameras with opengl axes" in reason and "--axes opencv" in reason
    assert not list((tmp_path / "out").glob("scene*")), "nothing is half-written"
    report = convert_cameras(scene, tmp_path / "again", Reading(axes="opencv"))
    assert report.num_converted == 1


def test_centimetres_are_asked_for(frames, tmp_path):
    scene = tmp_path / "scene"
    paths = [f"images/{name}" for name in write_pictures(scene / "images", frames)]
    write_transforms(scene, paths, opengl(scale=100.0), **lens())
    (reason,) = convert(tmp_path).rejected.values()
    assert "units a second" in reason and "if centimetres" in reason and "--units" in reason
    report = convert_cameras(scene, tmp_path / "again", Reading(units="cm"))
    assert report.num_converted == 1
    made = CAMERA.values(tmp_path / "again" / "scene.camera.npz")["poses"]
    np.testing.assert_allclose(np.linalg.inv(made[0]) @ made, PATH, atol=1e-6)


def test_a_scene_is_cut_where_a_picture_has_no_camera(frames, tmp_path):
    scene = tmp_path / "scene"
    nerfstudio(scene, frames)
    data = json.loads((scene / "transforms.json").read_text())
    data["frames"] = [row for row in data["frames"] if "frame_11" not in row["file_path"]]
    (scene / "transforms.json").write_text(json.dumps(data))
    assert convert(tmp_path).num_converted == 2
    lengths = [
        len(CAMERA.values(file)["poses"]) for file in sorted((tmp_path / "out").glob("*.npz"))
    ]
    assert lengths == [4, 3], "frame_7 to frame_10, and frame_12 to frame_14"


def test_distortion_is_taken_out():
    """A dot is where the new pinhole says, and not where the old one does."""
    distortion, point = (-0.25, 0.05, 0.001, -0.002), np.array([[0.3, 0.22, 1.0]])
    half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    (pixel,), _ = cv2.projectPoints(
        point, np.zeros(3), np.zeros(3), LENS - half, np.array(distortion)
    )
    picture = np.zeros((*SIZE, 3), np.uint8)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    dot = np.exp(-((columns - pixel[0, 0]) ** 2 + (rows - pixel[0, 1]) ** 2) / 8)
    picture[:] = (255 * dot[..., None]).astype(np.uint8)
    made, lens_33 = undistorted(picture, LENS, distortion)
    light = made[..., 0].astype(float)
    found = np.array([(columns * light).sum(), (rows * light).sum()]) / light.sum() + 0.5
    expected = (lens_33 @ point[0])[:2]
    np.testing.assert_allclose(found, expected, atol=0.15)
    assert np.abs(expected - (LENS @ point[0])[:2]).max() > 1
    same, own = undistorted(picture, LENS, ())
    assert same is picture and own is LENS


def test_lenses_of_one_or_two_coefficients_and_odd_pictures(frames, tmp_path):
    """A strip is cut off where the number of columns is odd; the lens stays."""
    colmap_text(tmp_path / "scene", frames[:, :, :-1])
    text = f"3 SIMPLE_RADIAL {SIZE[1] - 1} {SIZE[0]} 149 82 58 -0.1\n"
    (tmp_path / "scene" / CAMERAS).write_text(text)
    report = convert(tmp_path)
    assert (report.num_converted, report.rejected) == (1, {})
    made = CAMERA.values(tmp_path / "out" / "scene.camera.npz")
    assert made["size"].tolist() == [SIZE[0], SIZE[1] - 2]
    assert 130 < made["intrinsics"][0, 0, 0] < 149, "a wider view without borders"
    assert json.loads((tmp_path / "out" / "scene.json").read_text())["camera"]["is_undistorted"]


def edited(write: Writer, file: str, old: str, new: str) -> Writer:
    """A scene with one place of a text changed."""

    def writer(folder: Path, frames: np.ndarray) -> None:
        write(folder, frames)
        text = (folder / file).read_text()
        assert old in text, (file, old)
        (folder / file).write_text(text.replace(old, new, 1))

    return writer


def with_frame(change: Callable[[dict[str, Any]], Any], **values: Any) -> Writer:
    """A nerfstudio scene whose third frame, or whose whole file, is changed."""

    def writer(folder: Path, frames: np.ndarray) -> None:
        nerfstudio(folder, frames)
        data = json.loads((folder / "transforms.json").read_text()) | values
        change(data["frames"][2])
        (folder / "transforms.json").write_text(json.dumps(data))

    return writer


def matrix(change: Callable[[np.ndarray], Any]) -> Callable[[dict[str, Any]], None]:
    def changed(frame: dict[str, Any]) -> None:
        numbers = np.array(frame["transform_matrix"])
        change(numbers)
        frame["transform_matrix"] = numbers.tolist()

    return changed


def cut_short(folder: Path, frames: np.ndarray) -> None:
    colmap_binary(folder, frames)
    file = folder / "images.bin"
    file.write_bytes(file.read_bytes()[:-40])


def long_quaternion(folder: Path, frames: np.ndarray) -> None:
    colmap_text(folder, frames)
    lines = (folder / IMAGES).read_text().splitlines()
    words = lines[1].split()
    words[1] = "2.5"
    (folder / IMAGES).write_text("\n".join([lines[0], " ".join(words), *lines[2:], ""]))


def images(old: str, new: str) -> Writer:
    return edited(colmap_text, IMAGES, old, new)


def cameras(old: str, new: str) -> Writer:
    return edited(colmap_text, CAMERAS, old, new)


def estate(old: str, new: str, write: Writer = estate_pictures) -> Writer:
    return edited(write, "scene.txt", old, new)


def same(frame: dict[str, Any]) -> None:
    """Change nothing of a frame."""


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (images(" 3 frame_14.png", ""), "images.txt', line 2.*expected IMAGE_ID"),
        (images(" 3 frame_14", " 4 frame_14"), "line 2 has the camera 4"),
        (images("10.5 20.5 -1 30 40 7", "10.5 20.5"), "line 3.*POINT3D_ID"),
        (long_quaternion, "line 2 has a quaternion of length"),
        (images("frame_14.png", "frame_99.png"), "no picture.*frame_99"),
        (cameras("OPENCV", "FOV"), "cameras.txt', line 2.*FOV.*Undistort"),
        (cameras("OPENCV", "LENS"), "'LENS', which COLMAP does not have"),
        (cameras(" 0 0 0 0", " 0 0 0"), "7 parameters of OPENCV; expected 8"),
        (cameras(" 160 120", " 120 160"), "camera of 160x120.*turned"),
        (cut_short, "images.bin' ends .*at byte"),
        (with_frame(lambda frame: frame.pop("file_path")), "has no 'file_path'"),
        (with_frame(lambda frame: frame.pop("transform_matrix")), "has no camera matrix"),
        (with_frame(matrix(lambda m: m[:3, :3].__imul__(2))), "is no rotation"),
        (with_frame(matrix(lambda m: m[:, 0].__imul__(-1))), "mirrors"),
        (with_frame(matrix(lambda m: m.__setitem__((0, 3), np.nan))), "finite numbers"),
        (with_frame(lambda frame: frame.update(file_path="images/no.png")), "names the picture"),
        (with_frame(lambda frame: frame.update(fl_x="wide")), "has 'wide' as 'fl_x'"),
        (with_frame(same, fl_x=None, fl_y=None), "no focal length.*camera_angle_x"),
        (with_frame(same, camera_model="OPENCV_FISHEYE"), "OPENCV_FISHEYE"),
        (with_frame(matrix(lambda m: m.fill(np.nan))), "found NaN or infinity"),
        (with_frame(lambda frame: frame.update(transform_matrix="I")), "found 'I'"),
        (with_frame(lambda frame: frame.update(transform_matrix=[[1, 2]])), r"the shape \(1, 2\)"),
        (edited(nerfstudio, "transforms.json", '"frames"', '"shots"'), "no list 'frames'"),
        (edited(nerfstudio, "transforms.json", "{", "["), "not valid JSON"),
        (estate("\n600000 ", "\n600000 1 "), "line 3 has 20 columns"),
        (estate("\n600000 0.9", "\n600000 150.9"), "line 3.*in widths and heights"),
        (estate("\n1200000 ", "\n1900000 ", estate_video), "line 9 .*0.1 s are usual"),
        (estate("\n600000 ", "\n600001 "), "line 3 .*no such picture"),
        (estate("\n600000 ", "\n500000 "), "line 3 has a time that is not after that of line 2"),
        (estate(" 0.0 0.0 ", " 0.0 "), "line 2 has 18 columns"),
        (images("frame_14.png", "frame_13.png"), "line . and line . are both of .*frame_13"),
        (
            with_frame(lambda frame: frame.update(file_path="images/frame_9.png")),
            r"frames\[\d\] and frames\[\d\] are both of the picture .*frame_9",
        ),
    ],
)
def test_a_damaged_scene_is_left_out_with_file_row_and_what_is_expected(
    write, message, frames, tmp_path
):
    write(tmp_path / "scene", frames)
    report = convert(tmp_path)
    (reason,) = report.rejected.values()
    assert report.num_converted == 0
    assert re.search(message, reason), reason
    if write.__qualname__.startswith("with_frame"):
        assert re.search(r"transforms\.json', frames\[\d\]", reason), reason
    assert not list((tmp_path / "out").glob("scene*"))


def test_a_place_without_cameras_names_what_is_read(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(MissingFileError, match=r"no camera that is read.*COLMAP.*RealEstate10K"):
        find_scenes(tmp_path)
    with pytest.raises(MissingFileError, match=r"There is no '.*gone' to read cameras of"):
        find_scenes(tmp_path / "gone")
    with pytest.raises(ConfigError, match="units is 'inch'"):
        Reading(units="inch")
