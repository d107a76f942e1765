"""The Sampson error is zero for a rigid scene, whatever the camera does, and grows as it bends."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from nemo_cosmos.errors import VideoError
from nemo_cosmos.evaluation import choose_metrics, evaluate_cases
from nemo_cosmos.evaluation.geometry.epipolar import sampson_errors
from nemo_cosmos.evaluation.metric import Case
from nemo_cosmos.evaluation.single.sampson import temporal_sampson_error

FOCAL_PX = 300.0
CENTRE_PX = (160.0, 90.0)


def texture(seed: int, size: int = 700) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (size // 7, size // 7, 3), np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)


def plane_view(picture: np.ndarray, depth_m: float, camera_m: tuple[float, float]) -> np.ndarray:
    """A fronto-parallel plane that a camera sees from (x, y) metres, 320 x 180."""
    zoom = FOCAL_PX / depth_m / 100  # the texture has 100 pixels a metre
    shift = [
        centre - zoom * (350 + 100 * place)
        for centre, place in zip(CENTRE_PX, camera_m, strict=True)
    ]
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    return cv2.warpAffine(picture, matrix, (320, 180), flags=cv2.INTER_AREA)


def scene(num_frames: int = 5, bend_px: float = 0.0) -> np.ndarray:
    """Two planes of different depth seen by a moving camera; bent, they are no rigid scene."""
    near, far = texture(1), texture(2)
    frames = []
    for frame in range(num_frames):
        camera_m = (0.06 * frame, 0.02 * frame)
        picture = plane_view(far, 4.0, camera_m)
        picture[:, 160:] = plane_view(near, 2.5, camera_m)[:, 160:]
        if bend_px:
            rows, columns = np.mgrid[0:180, 0:320].astype(np.float32)
            wave = bend_px * np.sin(columns / 20 + 2.1 * frame).astype(np.float32)
            picture = cv2.remap(picture, columns, rows + wave, cv2.INTER_LINEAR)
        frames.append(picture)
    return np.stack(frames)


def test_the_formula_is_hartley_and_zissermans():
    generator = np.random.default_rng(0)
    rotation, _ = cv2.Rodrigues(np.array([0.02, -0.1, 0.03]))
    move = np.array([0.3, 0.05, 0.02])
    inverse = np.linalg.inv(np.array([[500.0, 0, 320], [0, 500, 180], [0, 0, 1]]))
    cross = np.array([[0, -move[2], move[1]], [move[2], 0, -move[0]], [-move[1], move[0], 0]])
    matrix = inverse.T @ cross @ rotation @ inverse
    points = np.c_[generator.uniform(-1, 1, (50, 2)), generator.uniform(2, 6, 50)]
    seen = [p @ np.linalg.inv(inverse).T for p in (points, points @ rotation.T + move)]
    first, second = (p[:, :2] / p[:, 2:] for p in seen)
    assert sampson_errors(first, second, matrix).max() < 1e-6
    second += generator.normal(0, 1, second.shape)
    for x, y, error in zip(first, second, sampson_errors(first, second, matrix), strict=True):
        a, b = np.append(x, 1), np.append(y, 1)
        line, back = matrix @ a, matrix.T @ b
        squared = (b @ matrix @ a) ** 2 / (
            line[0] ** 2 + line[1] ** 2 + back[0] ** 2 + back[1] ** 2
        )
        assert error == pytest.approx(np.sqrt(squared))
    # A point that is moved by one pixel across its epipolar line is about half a pixel off.
    assert 0.2 < np.median(sampson_errors(first, second, matrix)) < 1.0


def test_a_rigid_scene_has_a_small_error_and_a_bent_one_a_large():
    rigid = temporal_sampson_error(scene())
    slightly, much = (temporal_sampson_error(scene(bend_px=bend)) for bend in (2.0, 6.0))
    assert 1.5 * rigid < slightly < much
    assert temporal_sampson_error(scene()) == rigid, "the same video gives the same number"
    assert temporal_sampson_error(np.repeat(scene()[:1], 3, axis=0)) == 0.0


def test_a_video_without_points_is_skipped_with_the_reason():
    flat = np.full((3, 64, 64, 3), 120, np.uint8)
    with pytest.raises(VideoError, match="too blurred, too small"):
        temporal_sampson_error(flat)
    (metric,) = choose_metrics(["sampson_sift"])
    assert metric.features.name == "SIFT" and not metric.needs
    result = evaluate_cases([Case("a", scene()), Case("b", scene(bend_px=4.0))], [metric])
    assert result.clips["a"].scores["sampson_sift"] < result.clips["b"].scores["sampson_sift"]
