"""The driving controls' embedders: what they see of path, rig and layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.controls.camera import pixel_rays
from nemo_cosmos.controls.rig import camera_of
from nemo_cosmos.errors import SampleError
from nemo_cosmos.models.diffusion.controls import NetworkDims, build_embedder
from post_training.driving.path import resample, vehicle_poses

DIMS = NetworkDims(hidden_size=16, context_size=8, temporal_factor=4, spatial_factor=8)
SHAPE = (2, 16, 2 * 3, 4, 6)  # two views of three latent frames
FORWARD = [[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]


def rig(yaws_deg=(0.0, 40.0)):
    poses_V44 = np.tile(np.eye(4), (len(yaws_deg), 1, 1))
    for pose_44, yaw in zip(poses_V44, np.radians(yaws_deg), strict=True):
        turn = [[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]]
        pose_44[:3, :3] = np.array(turn) @ FORWARD
        pose_44[:3, 3] = [1.0, 0.2, 1.5]
    matrix_33 = np.array([[40.0, 0, 24], [0, 40, 16], [0, 0, 1]])
    return {
        "poses": poses_V44,
        "intrinsics": np.tile(matrix_33, (len(yaws_deg), 1, 1)),
        "size": np.tile([32.0, 48.0], (len(yaws_deg), 1)),
    }


def batch(num_frames=9, polynomial=None, **changes):
    values = rig()
    if polynomial is not None:
        values["angle_polynomial"] = np.array(polynomial)
    path = torch.zeros(2, num_frames, 3)
    path[..., 0] = torch.arange(num_frames) * 0.5
    tensors = {
        f"rig_{name}": torch.from_numpy(array).float()[None].repeat(2, *[1] * array.ndim)
        for name, array in values.items()
    }
    return {"trajectory": path, **tensors, **changes}


@pytest.fixture
def embedder():
    torch.manual_seed(0)
    return build_embedder(ControlSpec("driving"), DIMS)


def test_starts_without_an_effect_and_learns(embedder):
    embedding = embedder(batch(), SHAPE)
    assert embedding.timestep_BTD.shape == (2, 6, 16)
    assert embedding.adaln_lora_BT3D.shape == (2, 6, 48)
    assert embedding.tokens_BDthw.shape == (2, 16, 6, 2, 3)
    sums = [embedding.timestep_BTD, embedding.adaln_lora_BT3D, embedding.tokens_BDthw]
    assert all(not tensor.any() for tensor in sums)
    sum(tensor.sum() for tensor in sums).backward()
    assert embedder.tokens.weight.grad.any() and embedder.timestep.weight.grad.any()


def test_rays_are_those_of_each_view_from_where_the_car_is(embedder):
    _, rays_BCTHW = embedder.inputs(batch(), SHAPE)
    values, frame = rig(), 6  # the frame in the middle of the last latent frame
    for view in range(2):
        vehicle_T44 = np.eye(4)[None].copy()
        vehicle_T44[0, 0, 3] = frame * 0.5
        camera = camera_of(values, view, vehicle_T44)
        own_3 = pixel_rays(camera, 0, np.array([[4.0, 12.0]]))[0]
        ray_3 = camera["poses"][0, :3, :3] @ own_3
        moment_3 = np.cross(camera["poses"][0, :3, 3] / 10, ray_3)
        found = rays_BCTHW[0, :, view * 3 + 2, 1, 0].numpy()
        np.testing.assert_allclose(found, [*moment_3, *ray_3], atol=1e-6)


def test_only_the_fisheyes_of_a_rig_are_bent(embedder):
    _, straight = embedder.inputs(batch(), SHAPE)
    _, bent = embedder.inputs(batch(polynomial=[[0, 0.0], [0, 1.0]]), SHAPE)
    assert torch.allclose(straight[:, :, :3], bent[:, :, :3])
    assert (straight[:, :, 3:] - bent[:, :, 3:]).abs().max() > 0.01


def test_another_path_is_another_input_and_a_moved_world_is_not(embedder):
    motion, rays = embedder.inputs(batch(), SHAPE)
    turned = batch()
    angle = 0.7
    turn = torch.tensor(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]]
    )
    turned["trajectory"] = turned["trajectory"] @ turn.T.float() + torch.tensor([30.0, -8, 2])
    for one, other in zip((motion, rays), embedder.inputs(turned, SHAPE), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    slower = batch()
    slower["trajectory"] = slower["trajectory"] / 2
    assert not torch.allclose(embedder.inputs(slower, SHAPE)[0], motion, atol=1e-2)


def test_positions_and_poses_say_the_same():
    angle_N = np.linspace(0, 0.4, 33)
    radius = 20.0
    points = np.stack([radius * np.sin(angle_N), radius * (1 - np.cos(angle_N)), 0 * angle_N], 1)
    poses_N44 = np.tile(np.eye(4), (33, 1, 1))
    poses_N44[:, 0, 0] = poses_N44[:, 1, 1] = np.cos(angle_N)
    poses_N44[:, 1, 0], poses_N44[:, 0, 1] = np.sin(angle_N), -np.sin(angle_N)
    poses_N44[:, :3, 3] = points
    by_points = vehicle_poses(torch.from_numpy(points)[None])
    by_poses = vehicle_poses(torch.from_numpy(poses_N44)[None])
    assert (by_points - by_poses).abs().max() < 0.02
    later = vehicle_poses(torch.from_numpy(points)[None, 16:])
    assert (later - vehicle_poses(torch.from_numpy(poses_N44)[None, 16:])).abs().max() < 0.2


def test_a_reversing_car_keeps_looking_ahead():
    back = torch.zeros(1, 9, 3)
    back[0, :, 0] = -0.3 * torch.arange(9)
    assert torch.allclose(vehicle_poses(back)[0, :, :3, :3], torch.eye(3).double())
    still = torch.zeros(1, 9, 3)
    assert torch.allclose(vehicle_poses(still)[0], torch.eye(4).double())


def test_sixty_four_points_lie_at_even_times():
    points = torch.rand(2, 9, 3)
    resampled = resample(points)
    assert resampled.shape == (2, 64, 3)
    assert torch.equal(resampled[:, 0], points[:, 0])
    assert torch.allclose(resampled[:, -1], points[:, -1])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "no 'trajectory'"),
        (batch(num_frames=10), "10 rows"),
        (batch(trajectory=torch.zeros(2, 9, 2)), "expected \\(N, 3\\) positions"),
    ],
)
def test_what_does_not_fit_is_refused(embedder, given, reason):
    with pytest.raises(SampleError, match=reason):
        embedder(given, SHAPE)


def test_an_image_needs_no_path(embedder):
    embedding = embedder({}, (2, 16, 1, 4, 6))
    assert embedding.timestep_BTD.shape == (2, 1, 16)
    assert not embedding.tokens_BDthw.any()


def test_a_layout_starts_without_an_effect_and_learns():
    layout = build_embedder(ControlSpec("layout"), DIMS)
    embedding = layout({"layout": torch.randn(SHAPE)}, SHAPE)
    assert embedding.tokens_BDthw.shape == (2, 16, 6, 2, 3)
    assert not embedding.tokens_BDthw.any()
    embedding.tokens_BDthw.sum().backward()
    assert layout.patches.weight.grad.any()
    with pytest.raises(SampleError, match="the batch has shape"):
        layout({"layout": torch.randn(2, 16, 3, 4, 6)}, SHAPE)
