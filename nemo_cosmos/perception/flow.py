"""Motion between frames, and error that flickers along it.

The reference compares the optical flow of reconstruction and original by RAFT, whose weights must
be downloaded. Here the flow is OpenCV's DIS, computed on the original alone and not
differentiated: it tells where each pixel of a frame was in its neighbour. The reconstruction error
is carried along it, and its change is what is penalised. A reconstruction that is off by the same
amount along a path looks steady and costs nothing here (the colour loss sees it); one that
flickers, swims or smears a moving edge differently in every frame costs.

Shape suffixes: B batch, C channels, T frames, P frame pairs, H height, W width.
Source of the flow: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_MIN_SIDE = 16  # of the frames that DIS is given; its finest patches are 8 pixels


def flow_loss(reconstruction_BCTHW: Tensor, target_BCTHW: Tensor, scale: int = 2) -> Tensor:
    """Mean absolute change of the reconstruction error along the target's motion, a scalar.

    Args:
        reconstruction_BCTHW: in [-1, 1]; gradients flow into it.
        target_BCTHW: the original.
        scale: both are first shrunk by this factor, which costs little and steadies the flow.
    """
    if target_BCTHW.shape[2] < 2:
        return reconstruction_BCTHW.new_zeros(())
    scale = scale if min(target_BCTHW.shape[-2:]) // scale >= _MIN_SIDE else 1
    target = F.avg_pool3d(target_BCTHW.float(), (1, scale, scale))
    error = F.avg_pool3d(reconstruction_BCTHW.float(), (1, scale, scale)) - target
    flow_P2HW = _bidirectional_flow(target)
    here, there = _pairs(error)
    return (here - warp(there, flow_P2HW)).abs().mean()


def warp(frames_PCHW: Tensor, flow_P2HW: Tensor) -> Tensor:
    """Fetch every pixel from where the flow points, (x, y) in pixels; borders repeat."""
    _, _, H, W = frames_PCHW.shape
    ys = torch.arange(H, device=frames_PCHW.device, dtype=torch.float32)
    xs = torch.arange(W, device=frames_PCHW.device, dtype=torch.float32)
    x = (xs + flow_P2HW[:, 0]) * 2 / max(W - 1, 1) - 1
    y = (ys[:, None] + flow_P2HW[:, 1]) * 2 / max(H - 1, 1) - 1
    grid_PHW2 = torch.stack([x, y], dim=-1)
    return F.grid_sample(frames_PCHW, grid_PHW2, padding_mode="border", align_corners=True)


def _pairs(video_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
    """Each frame beside the one before it, then beside the one after it, as (P,C,H,W)."""
    later, earlier = video_BCTHW[:, :, 1:], video_BCTHW[:, :, :-1]
    here, there = torch.cat([later, earlier], dim=2), torch.cat([earlier, later], dim=2)
    return here.transpose(1, 2).flatten(0, 1), there.transpose(1, 2).flatten(0, 1)


def _bidirectional_flow(video_BCTHW: Tensor) -> Tensor:
    """Flow from each frame of :func:`_pairs` to its partner, (P,2,H,W), in pixels."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    gray = video_BCTHW.detach().mean(1, keepdim=True).add(1).mul(127.5).clamp(0, 255)
    here, there = (x[:, 0].byte().cpu().numpy() for x in _pairs(gray))
    flows = [dis.calc(a, b, None) for a, b in zip(here, there, strict=True)]
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).to(video_BCTHW.device)
