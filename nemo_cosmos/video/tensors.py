"""Between decoded frames and the tensors that models take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import NumericsError, VideoError

if TYPE_CHECKING:
    import torch


def frames_to_tensor(frames_THWC: NDArray[np.uint8]) -> torch.Tensor:
    """Turn ``(T, H, W, 3)`` uint8 RGB into a float32 ``video_CTHW`` in [-1, 1]."""
    import torch

    frames_CTHW = np.ascontiguousarray(frames_THWC.transpose(3, 0, 1, 2))
    return torch.from_numpy(frames_CTHW).to(torch.float32).div_(127.5).sub_(1.0)


def tensor_to_frames(video_CTHW: torch.Tensor) -> NDArray[np.uint8]:
    """Turn a model's ``video_CTHW`` in [-1, 1] into ``(T, H, W, 3)`` uint8 RGB, clipping.

    Raises:
        VideoError: the tensor has another shape.
        NumericsError: it contains NaN or infinity.
    """
    import torch

    if video_CTHW.ndim != 4 or video_CTHW.shape[0] != 3:
        raise VideoError(
            f"The video tensor has shape {tuple(video_CTHW.shape)}; expected (3, num_frames, "
            "height, width). Take one item of the batch."
        )
    video = video_CTHW.detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(video).all()):
        raise NumericsError(
            "The video tensor contains NaN or infinity, so there is nothing to show. The model "
            "diverged or was loaded incompletely; check its training loss and its checkpoint."
        )
    bytes_CTHW = video.add(1.0).mul(127.5).round_().clamp_(0, 255).to(torch.uint8)
    frames_THWC: NDArray[np.uint8] = bytes_CTHW.permute(1, 2, 3, 0).contiguous().numpy()
    return frames_THWC
