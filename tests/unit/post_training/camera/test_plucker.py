"""Rays on the latent grid: against NumPy, loop by loop, and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nemo_cosmos.controls.camera import ftheta_camera, pixel_rays
from post_training.camera.plucker import (
    camera_rays,
    carried,
    first_frame_places,
    frames_of_latents,
    plucker,
    relative_poses,
    waves,
)

HEIGHT, WIDTH = 48, 80


def random_camera(num_frames: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    poses_T44 = np.tile(np.eye(4), (num_frames, 1, 1))
    poses_T44[:, :3, :3] = Rotation.random(num_frames, random_state=seed).as_matrix()
    poses_T44[:, :3, 3] = rng.normal(size=(num_frames, 3))
    matrices_T33 = np.tile(np.eye(3), (num_frames, 1, 1))
    matrices_T33[:, 0] = np.c_[
        rng.uniform(50, 70, num_frames), np.full(num_frames, 1.5), [37] * num_frames
    ]
    matrices_T33[:, 1, 1:] = np.c_[rng.uniform(50, 70, num_frames), [21.0] * num_frames]
    return {"poses": poses_T44, "intrinsics": matrices_T33, "size": np.array([HEIGHT, WIDTH])}


def tensors(camera: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    poses, matrices, size = (
        torch.from_numpy(camera[n])[None] for n in ("poses", "intrinsics", "size")
    )
    return poses, matrices, size


def by_hand(camera: dict[str, np.ndarray], grid_hw: tuple[int, int]) -> np.ndarray:
    """``(6, T, H, W)``, one pixel after the other, with whole matrices inverted."""
    to_first = np.linalg.inv(camera["poses"][0])
    relative = [to_first @ pose for pose in camera["poses"]]
    unit = max(np.linalg.norm(pose[:3, 3]) for pose in relative)
    found = np.zeros((6, len(relative), *grid_hw))
    for t, pose in enumerate(relative):
        for row in range(grid_hw[0]):
            for column in range(grid_hw[1]):
                u = (column + 0.5) * WIDTH / grid_hw[1]
                v = (row + 0.5) * HEIGHT / grid_hw[0]
                ray = pose[:3, :3] @ np.linalg.solve(camera["intrinsics"][t], [u, v, 1])
                ray = ray / np.linalg.norm(ray)
                found[:, t, row, column] = [*np.cross(pose[:3, 3] / unit, ray), *ray]
    return found


def test_against_one_pixel_after_the_other() -> None:
    camera = random_camera(5)
    poses, matrices, size = tensors(camera)
    made = plucker(relative_poses(poses), camera_rays(matrices, size, (6, 10)))
    np.testing.assert_allclose(made[0].numpy(), by_hand(camera, (6, 10)), atol=1e-12)


def test_a_line_has_the_same_coordinates_from_each_of_its_points() -> None:
    """The camera goes along the ray of the picture's middle, which stays the same line."""
    poses_T44 = np.tile(np.eye(4), (3, 1, 1))
    poses_T44[:, 2, 3] = [0, 0.4, 1.0]
    matrix_33 = np.array([[60.0, 0, WIDTH / 2], [0, 60, HEIGHT / 2], [0, 0, 1]])
    poses, matrices = (
        torch.from_numpy(poses_T44)[None],
        torch.from_numpy(matrix_33).expand(1, 3, 3, 3),
    )
    made = plucker(
        relative_poses(poses), camera_rays(matrices, torch.tensor([[HEIGHT, WIDTH]]), (3, 5))
    )
    middle = made[0, :, :, 1, 2]
    torch.testing.assert_close(
        middle, torch.tensor([0, 0, 0, 0, 0, 1.0]).double()[:, None].expand(6, 3)
    )
    assert made[0, :3, 0].abs().max() == 0, "the first camera is the origin"
    assert made[0, :3, 2].abs().max() > 0.1, "rays at the side are other lines from farther on"


def test_a_pan_turns_the_middle_ray_and_moves_nothing() -> None:
    angle = np.radians(30)
    poses_T44 = np.tile(np.eye(4), (2, 1, 1))
    poses_T44[1, :3, :3] = Rotation.from_rotvec([0, angle, 0]).as_matrix()
    matrix_33 = np.array([[60.0, 0, WIDTH / 2], [0, 60, HEIGHT / 2], [0, 0, 1]])
    rays = camera_rays(
        torch.from_numpy(matrix_33).expand(1, 2, 3, 3), torch.tensor([[HEIGHT, WIDTH]]), (1, 1)
    )
    made = plucker(relative_poses(torch.from_numpy(poses_T44)[None]), rays)[0, :, 1, 0, 0]
    np.testing.assert_allclose(made.numpy(), [0, 0, 0, np.sin(angle), 0, np.cos(angle)], atol=1e-12)


def test_origin_axes_and_scale_of_the_world_do_not_matter() -> None:
    camera = random_camera(4)
    turned = np.eye(4)
    turned[:3, :3] = Rotation.random(random_state=9).as_matrix()
    turned[:3, 3] = [3, -2, 7]
    elsewhere = turned @ camera["poses"]
    elsewhere[:, :3, 3] *= 100  # centimetres
    here, there = (
        relative_poses(torch.from_numpy(poses)[None]) for poses in (camera["poses"], elsewhere)
    )
    torch.testing.assert_close(there, here, rtol=0, atol=1e-9)
    assert here[0, :, :3, 3].norm(dim=1).max() == pytest.approx(1)
    in_metres = relative_poses(torch.from_numpy(camera["poses"])[None], unit_m=2.0)
    half = torch.from_numpy(camera["poses"])[None].clone()
    half[:, :, :3, 3] /= 2
    torch.testing.assert_close(
        2 * relative_poses(half, unit_m=2.0)[:, :, :3, 3], in_metres[:, :, :3, 3]
    )


def test_the_jitter_of_a_still_camera_is_no_path() -> None:
    poses = torch.eye(4).repeat(1, 5, 1, 1)
    poses[0, :, :3, 3] = torch.tensor([2e4, 3e4, 10.0])
    poses[0, ::2, 0, 3] += 2e-3  # one rounding of float32 at 20 km
    assert relative_poses(poses)[0, :, :3, 3].abs().max() < 0.01


@pytest.mark.parametrize(
    ("factor", "frames"),
    [
        (8, [0, 4, 12, 20]),
        (4, [0, 2, 6, 10]),
        (2, [0, 1, 3, 5]),
        (1, [0, 1, 2, 3]),
        (5, [0, 2, 7, 12]),
    ],
)
def test_each_latent_frame_has_the_camera_of_the_middle_of_its_frames(
    factor: int, frames: list[int]
) -> None:
    assert frames_of_latents(4, factor) == frames


def test_a_fisheye_has_the_rays_of_its_polynomial() -> None:
    camera = ftheta_camera(np.eye(4)[None], (39, 25), (HEIGHT, WIDTH), (0, 1 / 40, 1e-5, 2e-6))
    _, matrices, size = tensors(camera)
    made = camera_rays(matrices, size, (6, 10), torch.from_numpy(camera["angle_polynomial"])[None])
    cells = [((column + 0.5) * 8, (row + 0.5) * 8) for row in range(6) for column in range(10)]
    np.testing.assert_allclose(
        made.reshape(-1, 3).numpy(), pixel_rays(camera, 0, np.array(cells)), atol=1e-9
    )


def test_waves_stand_beside_the_values() -> None:
    values = torch.rand(1, 6, 2, 3, 4, dtype=torch.float64)
    made = waves(values, 2)
    assert made.shape == (1, 30, 2, 3, 4)
    torch.testing.assert_close(made[:, :6], values)
    torch.testing.assert_close(made[:, 6:12], (torch.pi * values).sin())
    torch.testing.assert_close(made[:, 24:], (2 * torch.pi * values).cos())
    assert waves(values, 0).equal(values)


def test_places_on_the_first_frame_against_its_projection() -> None:
    """Random turns and lenses, by matrices, one pixel after the other."""
    camera, grid = random_camera(4), (3, 5)
    camera["poses"][:, :3, :3] = Rotation.from_euler(
        "xyz", np.random.default_rng(1).uniform(-15, 15, (4, 3)), degrees=True
    ).as_matrix()
    poses, matrices, size = tensors(camera)
    found = first_frame_places(relative_poses(poses), matrices, size, grid)[0].numpy()
    for t in range(4):
        turn = camera["poses"][0][:3, :3].T @ camera["poses"][t][:3, :3]
        homography = camera["intrinsics"][0] @ turn @ np.linalg.inv(camera["intrinsics"][t])
        for row in range(grid[0]):
            for column in range(grid[1]):
                pixel = [(column + 0.5) * WIDTH / grid[1], (row + 0.5) * HEIGHT / grid[0], 1]
                x, y, z = homography @ pixel
                expected = [2 * x / z / WIDTH - 1, 2 * y / z / HEIGHT - 1]
                np.testing.assert_allclose(found[t, row, column], expected, atol=1e-9)


def test_what_is_behind_the_first_camera_is_taken_from_the_edge_nearest_to_it() -> None:
    camera = random_camera(2)
    camera["intrinsics"][1] = camera["intrinsics"][0]
    camera["poses"][0, :3, :3] = np.eye(3)
    camera["poses"][1, :3, :3] = Rotation.from_euler("y", 120, degrees=True).as_matrix()
    poses, matrices, size = tensors(camera)
    places = first_frame_places(relative_poses(poses), matrices, size, (4, 6))
    first_BCHW = torch.arange(6.0).expand(1, 2, 4, 6)
    assert (carried(first_BCHW, places)[:, :, 1] == 5).all()
