"""Optical flow: where a moved picture is found again, and how pixels are fetched from there."""

from __future__ import annotations

import torch

from nemo_cosmos.perception.flow import bidirectional_flow, frame_pairs, warp


def test_the_flow_points_back_along_the_motion():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 16, 16, generator=generator)
    wide = torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear") * 2 - 1
    moved = torch.roll(wide, 2, dims=-1)  # two pixels to the right
    video_BCTHW = torch.stack([wide, moved], dim=2)
    to_before_2HW, to_after_2HW = bidirectional_flow(video_BCTHW)[:, :, 16:48, 16:48]
    assert abs(to_before_2HW[0].mean() + 2) < 0.2 and abs(to_after_2HW[0].mean() - 2) < 0.2
    assert abs(to_before_2HW[1].mean()) < 0.2


def test_each_frame_stands_beside_both_neighbours():
    video_BCTHW = torch.arange(3.0).view(1, 1, 3, 1, 1)
    here, there = frame_pairs(video_BCTHW)
    assert list(zip(here.flatten(), there.flatten(), strict=True)) == [
        (1, 0),
        (2, 1),
        (0, 1),
        (1, 2),
    ]


def test_warp_fetches_from_where_the_flow_points():
    frame = torch.arange(16.0).view(1, 1, 4, 4)
    flow = torch.zeros(1, 2, 4, 4)
    flow[:, 0] = 1  # one pixel to the right
    torch.testing.assert_close(warp(frame, flow)[..., :3], frame[..., 1:], atol=1e-5, rtol=0)
