"""Several cameras in one latent: which token belongs to which view, and what a view is.

The views of a sample lie one after another along the latent's time axis, each as long as the
others, and time begins again with each. Self-attention joins the tokens of all views. What tells
them apart is an embedding that is added to a view's tokens before the first layer: a row of a table
for the view's name, and a map of where its camera is mounted and how wide it looks. Both begin at
zero, so that a network starts from what it was without them. A name that the table lacks takes the
last row, which training makes useful by hiding names (:class:`ViewConditioning`); such a view is
known by its camera.

Shape suffixes: B batch, V views, K numbers of a camera, E model width, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nemo_cosmos.batch import batch_views, num_views_of
from nemo_cosmos.errors import ConfigError, SampleError
from nemo_cosmos.models.common.norms import ReplicatedLinear, replicated_parameter
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.platform import upload

NUM_RIG_VALUES = 17
"""A camera's numbers: rotation 9, translation 3, half angles of view 2, centre 2, and a one."""


@dataclass(frozen=True)
class CameraViews:
    """The views of a batch, as the network sees them.

    Attributes:
        slots_BV: row of each view in the table of names.
        num_frames: latent frames of a view.
        rig_BVK: numbers of each camera (:func:`rig_values`); None where they are unknown.
    """

    slots_BV: Tensor
    num_frames: int
    rig_BVK: Tensor | None = None

    @property
    def num_views(self) -> int:
        """Number of views of a sample."""
        return int(self.slots_BV.shape[1])

    def hide_names(self, keep_BV: Tensor, config: DiTConfig) -> CameraViews:
        """Return the views with the row of an unknown name where ``keep_BV`` is 0."""
        unknown = torch.full_like(self.slots_BV, len(config.view_slots))
        return replace(self, slots_BV=torch.where(keep_BV > 0, self.slots_BV, unknown))

    def view_of_frame(self, first: int, num_frames: int, patch_temporal: int = 1) -> Tensor:
        """Return the view that each frame of tokens belongs to.

        Args:
            first: number of the first one.
            num_frames: how many there are.
            patch_temporal: latent frames of a token.
        """
        frame_T = torch.arange(first, first + num_frames, device=self.slots_BV.device)
        return frame_T // (self.num_frames // patch_temporal)


def camera_views(
    batch: Mapping[str, Any], config: DiTConfig, num_frames: int, device: torch.device
) -> CameraViews | None:
    """Read a batch's views; None for a network of one camera.

    Args:
        batch: ``views`` are the names of each sample's cameras; ``rig_poses``, ``rig_intrinsics``,
            ``rig_size`` and ``rig_angle_polynomial`` say where they are and what they see.
        config: the network's configuration.
        num_frames: latent frames of all views together.
        device: where the network computes.

    Raises:
        ConfigError: several views for a network of one camera.
        SampleError: samples of different numbers of views, frames that do not divide over them, or
            a rig of another number of cameras.
    """
    check_views(batch, config, num_frames)
    if not config.view_slots:
        return None
    rows = {name: row for row, name in enumerate(config.view_slots)}
    slots = [[rows.get(name, len(rows)) for name in names] for names in batch_views(batch)]
    rig = None
    if "rig_poses" in batch:
        rig = rig_values(
            batch["rig_poses"],
            batch["rig_intrinsics"],
            batch["rig_size"],
            batch.get("rig_angle_polynomial"),
        ).to(device)
    return CameraViews(upload(torch.tensor(slots), device), num_frames // len(slots[0]), rig)


def check_views(batch: Mapping[str, Any], config: DiTConfig, num_frames: int) -> None:
    """Require a batch's views to suit the network and the latent; see :func:`camera_views`."""
    views, num_views = batch_views(batch), num_views_of(batch)
    if num_views > 1 and not config.view_slots:
        raise ConfigError(
            f"The samples have {num_views} views ({', '.join(views[0])}), but the model was built "
            "for one camera (its view_slots are empty). Train a *_multiview recipe, or set "
            "model.config.view_slots to the names of the cameras."
        )
    if num_views > config.max_views:
        raise SampleError(
            f"The samples have {num_views} views; a model takes up to {config.max_views}. Choose "
            "the views that matter."
        )
    if len({len(names) for names in views}) > 1:
        raise SampleError(
            "The batch mixes samples of different numbers of views: "
            f"{sorted({len(names) for names in views})}. Read each number from shards of its own."
        )
    if num_frames % (num_views * config.patch_temporal):
        raise SampleError(
            f"{num_frames} latent frames do not divide over {num_views} views "
            f"({', '.join(views[0])}). All views of a sample must be of one length; run "
            "'nemo-cosmos tokenize' on the shards again."
        )
    poses = batch.get("rig_poses")
    if config.view_slots and poses is not None and poses.shape[1] != num_views:
        raise SampleError(
            f"The rig has {poses.shape[1]} cameras, but the samples have {num_views} views "
            f"({', '.join(views[0])}). Give rig.npz one row a view, in the views' order."
        )


def rig_values(
    poses_BV44: Tensor,
    intrinsics_BV33: Tensor,
    size_BV2: Tensor,
    angle_polynomial_BVK: Tensor | None = None,
) -> Tensor:
    """Return what the network is told of each camera, relative to the first.

    Args:
        poses_BV44: camera to vehicle, metres.
        intrinsics_BV33: focal lengths and centre in pixels.
        size_BV2: height and width in pixels.
        angle_polynomial_BVK: of f-theta lenses, the angle off the axis in radians for a radius in
            focal lengths, lowest coefficient first; zeros for a pinhole. All are without it.

    Returns:
        (B, V, 17) float32: the rotation's nine numbers and the translation to the first camera,
        half the vertical and the horizontal angle of view in radians, how far the centre is off the
        middle as a share of the picture, and a one.
    """
    poses, intrinsics = poses_BV44.float(), intrinsics_BV33.float()
    to_first_B133 = poses[:, :1, :3, :3].transpose(-1, -2)
    rotation_BV33 = to_first_B133 @ poses[..., :3, :3]
    offset_BV3 = poses[..., :3, 3] - poses[:, :1, :3, 3]
    translation_BV3 = (to_first_B133 @ offset_BV3[..., None])[..., 0]
    height_width = size_BV2.float()
    focal_BV2 = torch.stack([intrinsics[..., 1, 1], intrinsics[..., 0, 0]], dim=-1)
    centre_BV2 = torch.stack([intrinsics[..., 1, 2], intrinsics[..., 0, 2]], dim=-1)
    radius_BV2 = height_width / 2 / focal_BV2
    angle_BV2 = radius_BV2.atan()
    if angle_polynomial_BVK is not None:
        coefficients = angle_polynomial_BVK.float().unbind(-1)
        bent_BV2 = sum(
            (c[..., None] * radius_BV2**power for power, c in enumerate(coefficients)),
            start=torch.zeros_like(radius_BV2),
        )
        is_fisheye_BV1 = (angle_polynomial_BVK != 0).any(dim=-1, keepdim=True)
        angle_BV2 = torch.where(is_fisheye_BV1, bent_BV2, angle_BV2)
    one_BV1 = torch.ones_like(angle_BV2[..., :1])
    return torch.cat(
        [
            rotation_BV33.flatten(-2),
            translation_BV3,
            angle_BV2,
            centre_BV2 / height_width - 0.5,
            one_BV1,
        ],
        dim=-1,
    )


class ViewEmbedding(nn.Module):
    """What is added to the tokens of each view: by its name, and by its camera.

    Args:
        config: the network's configuration: the names, width and rank.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, rank = config.hidden_size, config.adaln_lora_dim
        self.names = replicated_parameter(torch.Size([len(config.view_slots) + 1, width]), config)
        self.rig_1 = ReplicatedLinear(NUM_RIG_VALUES, rank, config)
        self.rig_2 = ReplicatedLinear(rank, width, config)
        if config.perform_initialization:
            nn.init.zeros_(self.names)
            nn.init.zeros_(self.rig_2.weight)

    def forward(self, views: CameraViews, view_of_frame_T: Tensor) -> Tensor:
        """Return what is added to the frames of tokens, (T, B, E).

        Args:
            views: names and cameras.
            view_of_frame_T: the view that each frame of tokens belongs to.
        """
        added_BVE = F.embedding(views.slots_BV, self.names)
        if views.rig_BVK is not None:
            rig_BVK = views.rig_BVK.to(self.names.dtype)
            added_BVE = added_BVE + self.rig_2(F.silu(self.rig_1(rig_BVK)))
        return added_BVE[:, view_of_frame_T].transpose(0, 1)


def texts_by_view(text_BVMC: Tensor) -> Tensor:
    """Texts of views as contexts of V times the samples, a view's samples together: (M, V B, C)."""
    return text_BVMC.permute(2, 1, 0, 3).flatten(1, 2)


def own_texts(text: Tensor, views: Sequence[int]) -> Tensor:
    """Keep the texts of some views; a text that all views share stays.

    Args:
        text: (B, M, C), or (B, V, M, C) with a text for each view.
        views: the views to keep, neighbours.
    """
    if text.dim() == 3:
        return text
    return text.narrow(1, views[0], len(views))
