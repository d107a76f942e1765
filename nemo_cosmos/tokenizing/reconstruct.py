"""Frames through a tokenizer and back, of any length and size.

A tokenizer takes 1 + f n frames and sides that are multiples of its factor. Other videos are padded
with their last frame and their border, and what comes back is cut to what went in, so that every
frame of every video is scored.

Shape suffixes: T frames, H height, W width, C channels, B batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.platform import upload
from nemo_cosmos.video import frames_to_tensor, tensor_to_frames

CHUNK_FRAMES = 17
"""Frames that are in the network at once where a video is one window; the result is the same."""


@dataclass(frozen=True)
class Reconstruction:
    """What a tokenizer makes of a video.

    Attributes:
        frames_THWC: uint8 RGB, as many frames of the same size as went in.
        codes: the code indices of all windows in one row; None of a continuous tokenizer.
    """

    frames_THWC: NDArray[np.uint8]
    codes: NDArray[np.int64] | None


def reconstruct(
    tokenizer: VideoTokenizer, frames_THWC: NDArray[np.uint8], window_frames: int | None = None
) -> Reconstruction:
    """Encode a video and decode it again.

    Args:
        tokenizer: the tokenizer.
        frames_THWC: uint8 RGB frames.
        window_frames: the number of frames that are encoded on their own, 1 + f n; None for the
            whole video as one stream, in which every frame is seen in the light of all before it.

    Raises:
        WrongFrameCountError: ``window_frames`` is not 1 + f n.
    """
    config = tokenizer.config
    if window_frames is not None:
        config.check_num_frames(window_frames)
    chunk = CHUNK_FRAMES if config.kind == "video" else None
    device = next(tokenizer.parameters()).device
    height, width = frames_THWC.shape[1:3]
    made: list[NDArray[np.uint8]] = []
    codes: list[NDArray[np.int64]] = []
    for part_THWC in _windows(frames_THWC, window_frames, config):
        padded = _padded(part_THWC, config)
        latents = tokenizer.encode(upload(frames_to_tensor(padded)[None], device), chunk)
        if config.discrete:
            codes.append(latents.cpu().numpy().astype(np.int64).reshape(-1))
        back_THWC = tensor_to_frames(tokenizer.decode(latents, chunk)[0])
        made.append(back_THWC[: len(part_THWC), :height, :width])
    return Reconstruction(np.concatenate(made), np.concatenate(codes) if codes else None)


def _windows(
    frames_THWC: NDArray[np.uint8], window_frames: int | None, config: TokenizerConfig
) -> Iterator[NDArray[np.uint8]]:
    """The parts that are encoded on their own; an image tokenizer sees its frames in batches."""
    whole = len(frames_THWC) if config.kind == "video" else CHUNK_FRAMES
    step = window_frames or whole
    for first in range(0, len(frames_THWC), step):
        yield frames_THWC[first : first + step]


def _padded(frames_THWC: NDArray[np.uint8], config: TokenizerConfig) -> NDArray[np.uint8]:
    """The frames in the next legal length and size."""
    num_frames, height, width = frames_THWC.shape[:3]
    length = 1 + -(-(num_frames - 1) // config.temporal_factor) * config.temporal_factor
    side = config.spatial_factor
    missing = (length - num_frames, -height % side, -width % side)
    if not any(missing):
        return frames_THWC
    return np.pad(frames_THWC, [(0, more) for more in missing] + [(0, 0)], mode="edge")
