"""The driving control's embedder: a path and a rig decide what every camera sees.

The published multi-view model embeds 64 points of the car's path by a linear map and tells its
cameras apart by a learned number each, so that it knows no rig but its own. Here, two branches say
where every camera is:

- The 64 points, the car's pose at each latent frame and its motion in the axes of each camera go
  through an MLP into the noise level's embedding and into the shared modulation.
- The rays of each token's cells, in the axes of the car's first frame (Plücker coordinates, as the
  camera control has them), are added to the tokens. Two cameras that see the same point of the
  world receive rays that meet there, so that views can agree, and a camera at a place that no
  training rig had is one between those that were seen.

The last layer of each branch starts at zero: post-training starts from the model without it.

Shape suffixes: B batch, V views, N pixel frames, T latent frames of a view.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nemo_cosmos.controls import RIG
from nemo_cosmos.controls.registry import TRAJECTORY
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.models.diffusion.controls import ControlEmbedder, ControlEmbedding, NetworkDims
from post_training.camera.plucker import camera_rays, frames_of_latents, plucker
from post_training.driving.path import NUM_POINTS, resample, vehicle_poses
from post_training.patches import token_patches

UNIT_M = 10.0
"""Metres that count as a distance of 1: about what a car drives in a second."""
_NUM_COORDINATES = 6
_NUM_MOTION = 3 + 2 + 3 + 3 + 3  # place, heading and step of the car; place and step by camera


class DrivingEmbedder(ControlEmbedder):
    """Embeds a car's path and the rig of its cameras."""

    level_each_frame: ClassVar[bool] = True

    def __init__(
        self,
        hidden_size: int,
        temporal_factor: int,
        patch_thw: tuple[int, int, int] = (1, 2, 2),
        unit_m: float = UNIT_M,
    ) -> None:
        """Make the branches.

        Args:
            hidden_size: D, the network's width.
            temporal_factor: pixel frames per latent frame.
            patch_thw: latent frames, rows and columns of a token.
            unit_m: metres that count as a distance of 1.
        """
        super().__init__()
        if not (math.isfinite(unit_m) and unit_m > 0):
            raise ConfigError(
                f"unit_m is {unit_m}; expected the metres that count as a distance of 1, such as "
                f"{UNIT_M:g}."
            )
        self.temporal_factor = temporal_factor
        self.patch_thw = patch_thw
        self.unit_m = unit_m
        self.path = nn.Linear(3 * NUM_POINTS + _NUM_MOTION, 4 * hidden_size)
        self.timestep = _zero_linear(4 * hidden_size, hidden_size)
        self.adaln_lora = _zero_linear(4 * hidden_size, 3 * hidden_size)
        self.rays = nn.Linear(_NUM_COORDINATES * math.prod(patch_thw), hidden_size)
        self.tokens = _zero_linear(hidden_size, hidden_size)

    @classmethod
    def build(cls, dims: NetworkDims, **options: Any) -> Self:
        """Make the control; ``options`` may hold ``unit_m``."""
        return cls(dims.hidden_size, dims.temporal_factor, dims.patch_thw, **options)

    def forward(
        self, batch: Mapping[str, Tensor], latent_shape_BCTHW: tuple[int, ...]
    ) -> ControlEmbedding:
        """Embed the trajectory and the rig for latents of V T frames.

        A single image needs neither; without them it gets no path and no rays.

        Raises:
            SampleError: the batch lacks one, or has them for another number of frames or views.
        """
        has_path = TRAJECTORY.name in batch and f"{RIG.name}_poses" in batch
        if has_path:
            motion_BVTA, rays_BCTHW = self.inputs(batch, latent_shape_BCTHW)
        elif latent_shape_BCTHW[2] > 1:
            raise SampleError(
                f"The batch has no '{TRAJECTORY.name}' or no '{RIG.name}_poses', which the model's "
                f"driving control needs. Read shards with '{TRAJECTORY.suffix}' and "
                f"'{RIG.suffix}', or pass both when you generate."
            )
        else:
            shape = (latent_shape_BCTHW[0], _NUM_COORDINATES, *latent_shape_BCTHW[2:])
            rays_BCTHW = self.tokens.weight.new_zeros(shape)
            motion_BVTA = rays_BCTHW.new_zeros(shape[0], 1, 1, self.path.in_features)
        dtype = self.tokens.weight.dtype
        hidden_BTD = _activate(self.path, motion_BVTA.flatten(1, 2)).to(dtype)
        patches = token_patches(rays_BCTHW, self.patch_thw)
        tokens_BthwD: Tensor = self.tokens(_activate(self.rays, patches).to(dtype))
        # Not zeros of their own: whoever reduces gradients waits for every parameter's.
        is_used = 1 if has_path else 0
        return ControlEmbedding(
            timestep_BTD=is_used * self.timestep(hidden_BTD),
            adaln_lora_BT3D=is_used * self.adaln_lora(hidden_BTD),
            tokens_BDthw=is_used * tokens_BthwD.permute(0, 4, 1, 2, 3),
        )

    def inputs(
        self, batch: Mapping[str, Tensor], latent_shape_BCTHW: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """What the branches embed: motion ``(B, V, T, A)`` and rays ``(B, 6, V T, H, W)``.

        Args:
            batch: holds ``trajectory`` and the arrays of ``rig.npz``.
            latent_shape_BCTHW: shape of the latents.

        Raises:
            SampleError: path or rig are for another number of frames or views.
        """
        rig_BV44 = batch[f"{RIG.name}_poses"].double()
        num_views, num_latent_frames = rig_BV44.shape[1], latent_shape_BCTHW[2]
        trajectory = batch[TRAJECTORY.name]
        frames_of_view = num_latent_frames // num_views
        num_frames = 1 + self.temporal_factor * (frames_of_view - 1)
        if num_latent_frames % num_views or trajectory.shape[1] != num_frames:
            raise SampleError(
                f"The rig has {num_views} views and the trajectory {trajectory.shape[1]} rows; "
                f"{num_latent_frames} latent frames of {self.temporal_factor} pixel frames need "
                f"views that divide them, and {num_frames} rows: one for each pixel frame."
            )
        vehicle_BN44 = vehicle_poses(trajectory)
        vehicle_BN44[..., :3, 3] /= self.unit_m
        numbers = frames_of_latents(frames_of_view, self.temporal_factor)
        vehicle_BT44 = vehicle_BN44[:, numbers]
        rig_BV44 = rig_BV44.clone()
        rig_BV44[..., :3, 3] /= self.unit_m
        cameras_BVT44 = vehicle_BT44[:, None] @ rig_BV44[:, :, None]
        motion_BVTA = _motion(resample(vehicle_BN44[..., :3, 3]), vehicle_BT44, cameras_BVT44)
        return motion_BVTA, self._rays(batch, cameras_BVT44, latent_shape_BCTHW[3:])

    def _rays(
        self, batch: Mapping[str, Tensor], cameras_BVT44: Tensor, grid_hw: tuple[int, ...]
    ) -> Tensor:
        """Plücker coordinates of the latent's cells, ``(B, 6, V T, H, W)``, views after another."""
        batch_size, num_views, num_latent_frames = cameras_BVT44.shape[:3]
        intrinsics_B133 = batch[f"{RIG.name}_intrinsics"].flatten(0, 1)[:, None]
        size_B2 = batch[f"{RIG.name}_size"].flatten(0, 1)
        height, width = grid_hw
        rays = camera_rays(intrinsics_B133, size_B2, (height, width))
        polynomial = batch.get(f"{RIG.name}_angle_polynomial")
        if polynomial is not None:
            polynomial_BK = polynomial.flatten(0, 1)
            bent = camera_rays(intrinsics_B133, size_B2, (height, width), polynomial_BK)
            is_fisheye_B = (polynomial_BK != 0).any(dim=1)
            rays = torch.where(is_fisheye_B.view(-1, 1, 1, 1, 1), bent, rays)
        rays = rays.expand(-1, num_latent_frames, -1, -1, -1)
        coordinates = plucker(cameras_BVT44.flatten(0, 1), rays)
        by_view = coordinates.unflatten(0, (batch_size, num_views))
        return by_view.transpose(1, 2).flatten(2, 3).float()


def _motion(points_BP3: Tensor, vehicle_BT44: Tensor, cameras_BVT44: Tensor) -> Tensor:
    """What the path's branch embeds of each view and latent frame, ``(B, V, T, A)`` float32."""
    num_views = cameras_BVT44.shape[1]
    place_BT3 = vehicle_BT44[..., :3, 3]
    sine_BT, cosine_BT = vehicle_BT44[..., 1, 0], vehicle_BT44[..., 0, 0]
    heading_BT2 = torch.stack([sine_BT, 1 - cosine_BT], dim=-1)
    points_BTA = points_BP3.flatten(1)[:, None].expand(-1, place_BT3.shape[1], -1)
    of_car = torch.cat([points_BTA, place_BT3, heading_BT2, _steps(place_BT3)], dim=-1)
    seen_BVT3 = cameras_BVT44[..., :3, 3] - cameras_BVT44[:, :, :1, :3, 3]
    to_camera_BVT33 = cameras_BVT44[..., :3, :3].transpose(-1, -2)
    of_cameras = [
        (to_camera_BVT33 @ way[..., None])[..., 0] for way in (seen_BVT3, _steps(seen_BVT3))
    ]
    shared = of_car[:, None].expand(-1, num_views, -1, -1)
    return torch.cat([shared, *of_cameras], dim=-1).float()


def _steps(places: Tensor) -> Tensor:
    """What each latent frame's place adds to that of the one before, ``(..., T, 3)``."""
    return F.pad(places.diff(dim=-2), (0, 0, 1, 0))


def _activate(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """A first layer and its activation, float32.

    In bfloat16 a ray is known to a fifth of a degree, more than a car turns from frame to frame.
    """
    with torch.autocast(inputs.device.type, enabled=False):
        hidden = F.linear(inputs.float(), layer.weight.float(), layer.bias.float())
    return F.gelu(hidden, approximate="tanh")


def _zero_linear(num_inputs: int, num_outputs: int) -> nn.Linear:
    """A layer that starts without an effect."""
    layer = nn.Linear(num_inputs, num_outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
