"""Motion between neighbouring frames, by OpenCV's DIS optical flow.

Shape suffixes: B batch, C channels, T frames, P frame pairs, H height, W width.
Source of the flow: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

MIN_SIDE_PX = 16
"""Smallest side of frames that DIS takes; its finest patches are 8 pixels."""


def warp(frames_PCHW: Tensor, flow_P2HW: Tensor) -> Tensor:
    """Fetch every pixel from where the flow points; pixels outside repeat the border.

    Args:
        frames_PCHW: frames of any value range.
        flow_P2HW: (x, y) in pixels from each pixel to where it is fetched from.
    """
    _, _, H, W = frames_PCHW.shape
    ys = torch.arange(H, device=frames_PCHW.device, dtype=torch.float32)
    xs = torch.arange(W, device=frames_PCHW.device, dtype=torch.float32)
    x = (xs + flow_P2HW[:, 0]) * 2 / max(W - 1, 1) - 1
    y = (ys[:, None] + flow_P2HW[:, 1]) * 2 / max(H - 1, 1) - 1
    grid_PHW2 = torch.stack([x, y], dim=-1)
    return F.grid_sample(frames_PCHW, grid_PHW2, padding_mode="border", align_corners=True)


def frame_pairs(video_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
    """Each frame beside the one before it, then beside the one after it, as (P,C,H,W)."""
    later, earlier = video_BCTHW[:, :, 1:], video_BCTHW[:, :, :-1]
    here, there = torch.cat([later, earlier], dim=2), torch.cat([earlier, later], dim=2)
    return here.transpose(1, 2).flatten(0, 1), there.transpose(1, 2).flatten(0, 1)


def forward_flow(frames_THWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Flow from each frame to the next, ``(T-1,H,W,2)``, (x, y) in pixels.

    Args:
        frames_THWC: RGB frames of at least :data:`MIN_SIDE_PX` a side.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    flows = [dis.calc(before, after, None) for before, after in pairwise(grey)]
    return np.stack(flows) if flows else np.zeros((0, *frames_THWC.shape[1:3], 2), np.float32)


def bidirectional_flow(video_BCTHW: Tensor) -> Tensor:
    """Flow from each frame of :func:`frame_pairs` to its partner, ``(P,2,H,W)``, in pixels.

    Args:
        video_BCTHW: RGB in [-1, 1]; no gradient flows through it.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    gray = video_BCTHW.detach().mean(1, keepdim=True).add(1).mul(127.5).clamp(0, 255)
    here, there = (x[:, 0].byte().cpu().numpy() for x in frame_pairs(gray))
    flows = [dis.calc(a, b, None) for a, b in zip(here, there, strict=True)]
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).to(video_BCTHW.device)
