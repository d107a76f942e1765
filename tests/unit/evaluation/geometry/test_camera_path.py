"""A camera that flew through a room is found again by structure from motion."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nemo_cosmos.controls.camera import ftheta_camera
from nemo_cosmos.errors import MissingDependencyError, VideoError
from nemo_cosmos.evaluation import choose_metrics, evaluate_cases
from nemo_cosmos.evaluation.cases import score_cases
from nemo_cosmos.evaluation.geometry import camera_path, reconstruction
from nemo_cosmos.evaluation.geometry.camera_path import (
    path_error_curve,
    pose_success,
    rotation_error_curve,
    translation_error_curve,
)
from nemo_cosmos.evaluation.geometry.epipolar import Lens
from nemo_cosmos.evaluation.geometry.reconstruction import CameraPath, find_path
from nemo_cosmos.evaluation.geometry.trajectory import translation_errors
from nemo_cosmos.platform import has
from nemo_cosmos.testing.rooms import ROOM, draw, flight, pinhole

METRICS = choose_metrics(
    [
        "camera_pose_success",
        "camera_rotation_error_deg",
        "camera_translation_error",
        "camera_path_error",
    ]
)
needs_colmap = pytest.mark.skipif(not has("pycolmap"), reason="pycolmap is not installed")


def found(case, poses_N44, frames=None, num_asked=None):
    """Put a path in place of the reconstruction's."""
    frame_N = np.arange(len(poses_N44)) if frames is None else np.array(frames)
    path = CameraPath(num_asked or len(case.generated_THWC), frame_N, poses_N44)
    return lambda name, frames_THWC, camera: path


@needs_colmap
def test_the_path_of_a_flight_is_found(flown):
    scores = evaluate_cases([flown], METRICS)
    assert scores.scores["camera_pose_success"].value == 1.0
    assert scores.scores["camera_rotation_error_deg"].value < 0.5
    assert scores.scores["camera_translation_error"].value < 0.01
    assert scores.scores["camera_path_error"].value < 0.03
    assert len(scores.clips["flight"].curves["camera_rotation_error_deg"]) == 5
    # Told another path, the same pictures are far from it.
    camera = flown.recorded["camera"]
    poses_T44 = camera["poses"].copy()
    turn = [Rotation.from_rotvec([0, 0.1 * frame, 0]).as_matrix() for frame in range(5)]
    poses_T44[:, :3, :3] = poses_T44[:, :3, :3] @ np.array(turn)
    poses_T44[:, :3, 3] = poses_T44[::-1, [1, 0, 2], 3] + [[0], [0], [0], [2], [0]]
    told = replace(flown, recorded={"camera": {**camera, "poses": poses_T44}})
    np.testing.assert_allclose(rotation_error_curve(told), np.degrees(0.1 * np.arange(5)), atol=0.5)
    assert translation_error_curve(told).mean() > 0.2


@needs_colmap
def test_a_video_that_shows_no_place_is_no_success_and_stands_still(flown):
    flat = replace(flown, generated_THWC=np.full_like(flown.generated_THWC, 90))
    assert pose_success(flat) == 0.0
    given_T44 = flown.recorded["camera"]["poses"]
    angles = Rotation.from_matrix(given_T44[0, :3, :3].T @ given_T44[:, :3, :3]).magnitude()
    np.testing.assert_allclose(rotation_error_curve(flat), np.degrees(angles), atol=1e-6)
    assert translation_error_curve(flat).max() < 1
    travelled = np.linalg.norm(given_T44[:, :3, 3] - given_T44[0, :3, 3], axis=1)
    np.testing.assert_allclose(path_error_curve(flat), travelled / travelled.max())


@needs_colmap
def test_a_video_without_a_camera_file_can_be_reconstructed(flown):
    (metric,) = choose_metrics(["reconstruction_success"])
    found = evaluate_cases([replace(flown, recorded={})], [metric])
    assert not metric.needs and found.scores[metric.name].value == 1.0
    path = find_path("flight", flown.generated_THWC, None)
    given_T44 = flown.recorded["camera"]["poses"]
    assert translation_errors(path.poses_N44[:, :3, 3], given_T44[:, :3, 3]).max() < 0.05


def test_scale_and_axes_of_the_found_path_do_not_count(flown, monkeypatch):
    given_T44 = flown.recorded["camera"]["poses"]
    world_44 = np.eye(4)
    world_44[:3, :3] = Rotation.from_rotvec([1, 2, 3]).as_matrix()
    moved_T44 = world_44 @ given_T44
    moved_T44[:, :3, 3] = 5 * moved_T44[:, :3, 3] + [1, 2, 3]
    monkeypatch.setattr(camera_path, "find_path", found(flown, moved_T44))
    assert rotation_error_curve(flown).max() < 1e-6
    assert translation_error_curve(flown).max() < 1e-9
    assert path_error_curve(flown).max() < 1e-9


def test_frames_without_a_place_are_filled_and_too_many_are_no_success(flown, monkeypatch):
    given_T44 = flown.recorded["camera"]["poses"]
    off_T44 = given_T44.copy()
    off_T44[4, :3, :3] = off_T44[4, :3, :3] @ Rotation.from_rotvec([0.2, 0, 0]).as_matrix()
    kept = [0, 1, 2, 4]
    monkeypatch.setattr(camera_path, "MIN_FOUND", 0.8)
    monkeypatch.setattr(camera_path, "find_path", found(flown, off_T44[kept], kept, 5))
    assert pose_success(flown) == 1.0
    np.testing.assert_allclose(
        rotation_error_curve(flown), [0, 0, 0, np.degrees(0.1), np.degrees(0.2)], atol=1e-6
    )
    monkeypatch.setattr(camera_path, "find_path", found(flown, off_T44[:3], [0, 1, 2], 5))
    assert pose_success(flown) == 0.0


def test_a_camera_that_only_turns_has_no_translation_error(flown, monkeypatch):
    camera = pinhole(np.zeros((5, 3)), np.tile([0, 2.0, 0], (5, 1)), (144, 256))
    case = replace(flown, recorded={"camera": camera})
    monkeypatch.setattr(camera_path, "find_path", found(flown, camera["poses"]))
    with pytest.raises(VideoError, match="does not travel"):
        translation_error_curve(case)
    assert rotation_error_curve(case).max() < 1e-9


def test_too_few_frames_and_a_crash_are_reasons(flown, monkeypatch, tmp_path):
    camera = flown.recorded["camera"]
    with pytest.raises(VideoError, match="at least 3"):
        find_path("short", flown.generated_THWC[:2], camera)
    monkeypatch.setattr(reconstruction, "has", lambda module: True)
    script = tmp_path / "sfm_process.py"
    monkeypatch.setattr(reconstruction, "__file__", str(tmp_path / "reconstruction.py"))
    script.write_text("raise SystemExit('out of luck')")
    with pytest.raises(VideoError, match="status 1: out of luck"):
        find_path("crash", flown.generated_THWC[:3], camera)
    script.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(reconstruction, "TIMEOUT_S", 0.2)
    with pytest.raises(VideoError, match="within"):
        find_path("slow", flown.generated_THWC[:3], camera)


def test_without_colmap_a_suite_goes_on_and_a_metric_names_the_package(flown, monkeypatch):
    monkeypatch.setattr(reconstruction, "has", lambda module: False)
    monkeypatch.setattr(reconstruction, "_kept", type(reconstruction._kept)(most=4))

    def missing(module):
        raise MissingDependencyError(f"The package '{module}' is not installed.")

    monkeypatch.setattr(reconstruction, "require", missing)
    with pytest.raises(MissingDependencyError, match="pycolmap"):
        score_cases([flown], METRICS)
    (scores,) = score_cases([flown], METRICS, optional={metric.name for metric in METRICS})
    assert not scores.scores and len(scores.lacking) == len(METRICS)


def test_pictures_of_a_fisheye_and_of_a_zoom_are_those_of_one_pinhole(tmp_path):
    """What COLMAP is given is what a pinhole with the written matrix sees."""
    poses_T44 = flight(2, (144, 256))["poses"]
    polynomial = [0.0, 1 / 150, 0.0, -0.05 / 150**3]
    fisheye = ftheta_camera(poses_T44, (128, 72), (144, 256), polynomial)
    zoom = flight(2, (144, 256))
    zoom["intrinsics"][1, :2, :2] *= 1.3
    import cv2

    for name, camera in {"fisheye": fisheye, "zoom": zoom}.items():
        folder = tmp_path / name
        folder.mkdir()
        matrix_33 = reconstruction._write_pictures(
            draw(camera, ROOM[:6]), camera, np.arange(2), folder
        )
        written = cv2.imread(str(folder / "000001.png"))[..., ::-1]
        straight = {
            "poses": poses_T44[1:],
            "intrinsics": matrix_33[None],
            "size": np.array(written.shape[:2]),
        }
        expected = draw(straight, ROOM[:6])[0]
        seen = written.max(axis=-1) > 0
        difference = np.abs(written.astype(float) - expected)[seen]
        assert seen.mean() > 0.3 and np.median(difference) < 12, name
    assert Lens(zoom, 1).matrix_33[0, 0] > Lens(zoom, 0).matrix_33[0, 0]


def test_colmap_is_never_loaded_beside_opencv():
    """Both in one process abort, so nothing may import it but the script."""
    code = (
        "import sys; from nemo_cosmos.evaluation import metrics;"
        "[m.features for m in metrics().values() if m.kind != 'judge'];"
        "sys.exit('pycolmap' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
