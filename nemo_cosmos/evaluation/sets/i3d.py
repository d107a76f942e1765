"""FVD and its relatives: distances of two sets of videos by the logits of I3D (Kinetics-400).

Three numbers, which are not comparable with each other:

- ``fvd_i3d``: each video is cut into clips of 16 frames (a rest of fewer is left out), every frame
  resized to 224x224 whatever its aspect, Frechet distance of the clips' logits. The features are
  those of the original FVD (Unterthiner et al. 2018) and of StyleGAN-V's port of it: the same
  network, size and value range. Published FVDs also differ in the clips' length and choice and in
  the number of videos; compare with one that states the same, such as "FVD 16 frames, N clips".
- ``rfvd_i3d``: TokenBench's rFVD of reconstructions. The first 300 frames of each video are one
  input; the short side is resized to 224 and the middle cut out.
- ``kvd_i3d``: the clips of ``fvd_i3d``, compared by a kernel distance, which is unbiased in small
  sets.

How few are too few: a Frechet distance needs more rows than features (400) for covariances of full
rank, and is too large with fewer, more so the fewer there are. The literature publishes it from 256
clips (the test set of BAIR) and rFVDs from 50 videos (DAVIS 2016), where both sides are of the same
videos and much of that error cancels. These are the limits here; below them the number would say
more about the size of the set than about the videos. With so few, compare only with numbers of as
many videos, or take ``kvd_i3d``.

Shape suffixes: T frames, B clips, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.assets import asset_version
from nemo_cosmos.errors import WrongFrameCountError
from nemo_cosmos.evaluation.metric import Features, Frames, SetMetric
from nemo_cosmos.evaluation.sets.frechet import frechet_distance
from nemo_cosmos.evaluation.sets.kernel import kernel_distance
from nemo_cosmos.platform import by_device, default_device

if TYPE_CHECKING:
    from torch import Tensor

    from nemo_cosmos.perception.i3d import I3D

CLIP_FRAMES = 16
MAX_FRAMES = 300
#: Clips that the network sees at once, on a CPU and on a GPU.
CLIPS_PER_CALL = (1, 16)
_FRAMES_PER_CALL = (CLIPS_PER_CALL[0] * CLIP_FRAMES, CLIPS_PER_CALL[1] * CLIP_FRAMES)
MIN_CLIPS, MIN_VIDEOS, MIN_CLIPS_FOR_KERNEL = 256, 50, 8


def clip_logits(frames_THWC: Frames) -> NDArray[np.float32]:
    """Logits of each clip of 16 frames, ``(B, 400)``.

    Raises:
        WrongFrameCountError: there are fewer than 16 frames.
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    import torch

    num_clips = len(frames_THWC) // CLIP_FRAMES
    _check_length(len(frames_THWC), CLIP_FRAMES)
    step = by_device(*CLIPS_PER_CALL)
    logits = []
    for first in range(0, num_clips, step):
        clips = range(first, min(first + step, num_clips))
        parts = [frames_THWC[clip * CLIP_FRAMES :][:CLIP_FRAMES] for clip in clips]
        logits.append(_logits(torch.stack([squeezed(part) for part in parts])))
    return np.concatenate(logits)


def video_logits(frames_THWC: Frames) -> NDArray[np.float32]:
    """Logits of the first 300 frames as one input, ``(1, 400)``, as TokenBench takes them.

    Raises:
        WrongFrameCountError: there are fewer than 9 frames.
        AssetError: the weights are not in the cache and the package index cannot be reached.
    """
    from nemo_cosmos.perception.i3d import MIN_FRAMES

    _check_length(len(frames_THWC), MIN_FRAMES)
    return _logits(cut_out(frames_THWC[:MAX_FRAMES])[None])


def squeezed(frames_THWC: Frames) -> Tensor:
    """Frames of 224x224 in [-1, 1], aspect not kept: ``(C, T, 224, 224)``."""
    return _resized(frames_THWC, (224, 224))


def cut_out(frames_THWC: Frames) -> Tensor:
    """The middle of frames whose short side is resized to 224, in [-1, 1]: ``(C, T, 224, 224)``."""
    height, width = frames_THWC.shape[1:3]
    scale = 224 / min(height, width)
    # Rounded up, as TokenBench does it.
    size = (224, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), 224)
    x_CTHW = _resized(frames_THWC, size)
    top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
    return x_CTHW[:, :, top : top + 224, left : left + 224]


def _resized(frames_THWC: Frames, size: tuple[int, int]) -> Tensor:
    """Bilinear without smoothing, pixel centres at halves."""
    import torch
    import torch.nn.functional as F

    frames = torch.from_numpy(np.ascontiguousarray(frames_THWC)).to(default_device())
    x_TCHW = F.interpolate(
        frames.permute(0, 3, 1, 2).float().div(255), size, mode="bilinear", align_corners=False
    )
    return x_TCHW.sub(0.5).mul(2).transpose(0, 1)


def _logits(clips_BCTHW: Tensor) -> NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        return np.asarray(_network()(clips_BCTHW).cpu().numpy(), np.float32)


def _check_length(num_frames: int, least: int) -> None:
    if num_frames < least:
        raise WrongFrameCountError(
            f"A video of {num_frames} frames is too short for I3D; expected at least {least}. "
            "Leave out the metrics of I3D, or compare longer videos."
        )


@functools.cache
def _network() -> I3D:
    from nemo_cosmos.perception.i3d import load_i3d

    return load_i3d().to(default_device())


def _features() -> Features:
    return Features("i3d-kinetics-400, 400 logits", asset_version("i3d_kinetics400"))


FVD_I3D = SetMetric(
    name="fvd_i3d",
    higher_is_better=False,
    description="Frechet video distance of clips of 16 frames by I3D; 0 the same set",
    describe_features=_features,
    frames_per_call=_FRAMES_PER_CALL,
    extract=clip_logits,
    compare=frechet_distance,
    min_rows=MIN_CLIPS,
    fewer_rows="kvd_i3d",
)

RFVD_I3D = SetMetric(
    name="rfvd_i3d",
    higher_is_better=False,
    description="TokenBench's Frechet video distance of whole reconstructed videos by I3D",
    describe_features=_features,
    frames_per_call=(MAX_FRAMES, MAX_FRAMES),
    extract=video_logits,
    compare=frechet_distance,
    min_rows=MIN_VIDEOS,
    fewer_rows="kvd_i3d",
)

KVD_I3D = SetMetric(
    name="kvd_i3d",
    higher_is_better=False,
    description="kernel video distance of clips of 16 frames by I3D, for small sets",
    describe_features=_features,
    frames_per_call=_FRAMES_PER_CALL,
    extract=clip_logits,
    compare=kernel_distance,
    min_rows=MIN_CLIPS_FOR_KERNEL,
)
