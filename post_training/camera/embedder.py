"""The camera control's embedder: rays of its pixels are added to the latent's tokens.

The published camera-controlled Cosmos model stacks six channels of Plücker coordinates on the
latent, which widens the patch embedding of the network. Its map is linear, so the new columns are a
branch that is added to the tokens: here it is a module of its own with a layer more, whose last
layer starts at zero. So post-training starts exactly from the model without the camera, whose
weights load unchanged.

The rays are those through the middles of the latent's cells; see :mod:`.plucker`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nemo_cosmos.controls import CAMERA
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.models.diffusion.controls import ControlEmbedder, ControlEmbedding, NetworkDims
from post_training.camera.plucker import (
    camera_rays,
    carried,
    first_frame_places,
    frames_of_latents,
    plucker,
    relative_poses,
    waves,
)
from post_training.patches import token_patches

NUM_COORDINATES = 6
MAX_FREQUENCIES = 10
"""The shortest wave is then 0.2 degrees long, less than a pixel of any video."""


class CameraEmbedder(ControlEmbedder):
    """Embeds a camera's path and lens as what is added to each token."""

    def __init__(
        self,
        hidden_size: int,
        temporal_factor: int,
        patch_thw: tuple[int, int, int] = (1, 2, 2),
        unit_m: float | None = None,
        frequencies: int = 0,
        carries_first_frame: bool = False,
        latent_channels: int = 16,
    ) -> None:
        """Make the branch.

        Args:
            hidden_size: D, the network's width.
            temporal_factor: pixel frames per latent frame.
            patch_thw: latent frames, rows and columns of a token.
            unit_m: metres that count as a distance of 1, for data that are all in metres; by
                default the farthest position of a clip is at distance 1.
            frequencies: F, how many waves of each coordinate the branch sees besides the
                coordinate itself; see :func:`.plucker.waves`. The published model has none.
            carries_first_frame: whether changes start from the first frame as the turned camera
                sees it (:func:`.plucker.carried`), which the branch then sees, too. The network
                has to find what is near, and what comes into view.
            latent_channels: channels of the latents.
        """
        super().__init__()
        if unit_m is not None and not (math.isfinite(unit_m) and unit_m > 0):
            raise ConfigError(
                f"unit_m is {unit_m}; expected the metres that count as a distance of 1, or None "
                "for the farthest position of each clip."
            )
        if (
            isinstance(frequencies, bool)
            or not isinstance(frequencies, int)
            or (not 0 <= frequencies <= MAX_FREQUENCIES)
        ):
            raise ConfigError(
                f"frequencies is {frequencies!r}; expected a whole number from 0, the coordinates "
                f"alone, to {MAX_FREQUENCIES}."
            )
        if not isinstance(carries_first_frame, bool):
            raise ConfigError(
                f"carries_first_frame is {carries_first_frame!r}; expected true or false."
            )
        self.temporal_factor = temporal_factor
        self.patch_thw = patch_thw
        self.unit_m = unit_m
        self.frequencies = frequencies
        num_values = NUM_COORDINATES * (1 + 2 * frequencies) * math.prod(patch_thw)
        self.first = nn.Linear(num_values, hidden_size)
        self.last = nn.Linear(hidden_size, hidden_size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.sets_change_base = carries_first_frame
        if carries_first_frame:
            self.carried = nn.Linear(latent_channels * math.prod(patch_thw), hidden_size)
            nn.init.zeros_(self.carried.weight)
            nn.init.zeros_(self.carried.bias)

    @classmethod
    def build(cls, dims: NetworkDims, **options: Any) -> Self:
        """Make the control; ``options``: ``unit_m``, ``frequencies``, ``carries_first_frame``."""
        return cls(
            dims.hidden_size,
            dims.temporal_factor,
            dims.patch_thw,
            latent_channels=dims.latent_channels,
            **options,
        )

    def forward(
        self, batch: Mapping[str, Tensor], latent_shape_BCTHW: tuple[int, ...]
    ) -> ControlEmbedding:
        """Embed the arrays of ``camera.npz`` for latents of T frames.

        An image, T = 1, needs no camera; without one it gets no rays.

        Raises:
            SampleError: the batch has no camera, or one for another number of frames.
        """
        has_camera = f"{CAMERA.name}_poses" in batch
        if not has_camera and latent_shape_BCTHW[2] > 1:
            raise SampleError(
                f"The batch has no '{CAMERA.name}_poses', which the model's camera control needs. "
                f"Read shards with '{CAMERA.suffix}' sidecars, or pass the camera when you "
                "generate."
            )
        if has_camera:
            rays_BCTHW = self.rays(batch, latent_shape_BCTHW)
        else:
            shape = (latent_shape_BCTHW[0], NUM_COORDINATES, *latent_shape_BCTHW[2:])
            rays_BCTHW = self.last.weight.new_zeros(shape)
        activated = F.gelu(self.hidden(rays_BCTHW), approximate="tanh")
        tokens_BthwD: Tensor = self.last(activated.to(self.last.weight.dtype))
        if not has_camera:
            # Not zeros of their own: whoever reduces gradients waits for every parameter's.
            tokens_BthwD = 0 * tokens_BthwD
        base_BCTHW = self._base(batch, latent_shape_BCTHW) if self.sets_change_base else None
        if base_BCTHW is not None:
            patches = token_patches(base_BCTHW, self.patch_thw)
            tokens_BthwD = tokens_BthwD + self.carried(patches.to(self.carried.weight.dtype))
        return ControlEmbedding(
            tokens_BDthw=tokens_BthwD.permute(0, 4, 1, 2, 3), change_base_BCTHW=base_BCTHW
        )

    def _base(self, batch: Mapping[str, Tensor], latent_shape_BCTHW: tuple[int, ...]) -> Tensor:
        """The first frame as each latent frame's camera sees it; 0 where none is given.

        Raises:
            SampleError: the camera is no pinhole.
        """
        if "first_frames" not in batch:  # nothing is given, or the image has no camera
            return self.last.weight.new_zeros(latent_shape_BCTHW, dtype=torch.float32)
        first_BCHW = batch["first_frames"][:, :, 0]
        if f"{CAMERA.name}_poses" not in batch:
            return first_BCHW[:, :, None].expand(latent_shape_BCTHW).float()
        if f"{CAMERA.name}_angle_polynomial" in batch:
            raise SampleError(
                "The camera has an f-theta lens ('angle_polynomial'), and this model carries its "
                "first frame along the path, which it can for pinholes. Rectify the video, or "
                "train a model without 'carries_first_frame'."
            )
        # The last frame of each latent frame, not the one in its middle as for the rays: decoded,
        # still pictures of the last ones pass over into each other and come out nearer in time.
        numbers = [self.temporal_factor * number for number in range(latent_shape_BCTHW[2])]
        return self._carried(batch, first_BCHW, numbers)

    def carry(self, batch: Mapping[str, Tensor], picture_BC1HW: Tensor, num_frames: int) -> Tensor:
        """The first picture as the cameras of the later frames see it."""
        if f"{CAMERA.name}_poses" not in batch:
            return picture_BC1HW
        return self._carried(batch, picture_BC1HW[:, :, 0], list(range(num_frames)))

    def _carried(
        self, batch: Mapping[str, Tensor], first_BCHW: Tensor, numbers: list[int]
    ) -> Tensor:
        """The first frame, or its latent, as the cameras of some frames see it."""
        places_BTHW2 = first_frame_places(
            relative_poses(batch[f"{CAMERA.name}_poses"], self.unit_m)[:, numbers],
            batch[f"{CAMERA.name}_intrinsics"][:, numbers],
            batch[f"{CAMERA.name}_size"],
            (first_BCHW.shape[2], first_BCHW.shape[3]),
        )
        return carried(first_BCHW, places_BTHW2)

    def rays(self, batch: Mapping[str, Tensor], latent_shape_BCTHW: tuple[int, ...]) -> Tensor:
        """Plücker coordinates of the latent's cells, ``(B, 6, T, H, W)`` float64.

        Args:
            batch: holds ``camera_poses``, ``camera_intrinsics`` and ``camera_size``.
            latent_shape_BCTHW: shape of the latents.

        Raises:
            SampleError: the camera is for another number of frames.
        """
        num_latent_frames, height, width = latent_shape_BCTHW[2:]
        poses_BN44, intrinsics_BN33, size_B2 = (
            batch[f"{CAMERA.name}_{name}"] for name in ("poses", "intrinsics", "size")
        )
        num_frames = 1 + self.temporal_factor * (num_latent_frames - 1)
        if poses_BN44.shape[1] != num_frames or intrinsics_BN33.shape[1] != num_frames:
            raise SampleError(
                f"The camera has {poses_BN44.shape[1]} poses and {intrinsics_BN33.shape[1]} "
                f"intrinsics; {num_latent_frames} latent frames of {self.temporal_factor} pixel "
                f"frames need {num_frames} of each: one for each pixel frame."
            )
        numbers = frames_of_latents(num_latent_frames, self.temporal_factor)
        return plucker(
            relative_poses(poses_BN44, self.unit_m)[:, numbers],
            camera_rays(
                intrinsics_BN33[:, numbers],
                size_B2,
                (height, width),
                batch.get(f"{CAMERA.name}_angle_polynomial"),
            ),
        )

    def hidden(self, rays_BCTHW: Tensor) -> Tensor:
        """What the first layer makes of rays, ``(B, t, h, w, D)`` float32.

        In bfloat16 a ray is known to a fifth of a degree, more than a camera turns from frame to
        frame, so this layer computes in float32 whatever its weights are kept in.

        Args:
            rays_BCTHW: Plücker coordinates of the latent's cells.
        """
        values_BCTHW = waves(rays_BCTHW, self.frequencies)
        patches = token_patches(values_BCTHW.float(), self.patch_thw)
        with torch.autocast(rays_BCTHW.device.type, enabled=False):
            return F.linear(patches, self.first.weight.float(), self.first.bias.float())
