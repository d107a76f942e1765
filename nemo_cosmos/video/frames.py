"""The in-memory video that every package passes around."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import VideoError

FramesTHWC = NDArray[np.uint8]


@dataclass(frozen=True)
class Video:
    """Decoded RGB frames and when they are shown.

    Attributes:
        frames_THWC: ``(T, H, W, 3)`` uint8 RGB.
        fps: frames per second; of a video with a variable frame rate, the mean.
        pts_s: ``(T,)`` float64, the time of each frame in seconds from the source's first frame, or
            ``None`` when the frames follow each other at exactly ``fps``.

    Raises:
        VideoError: the array has another shape or type, or a timestamp is missing.
    """

    frames_THWC: FramesTHWC
    fps: float
    pts_s: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        frames = self.frames_THWC
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise VideoError(
                f"Frames have shape {frames.shape} and type {frames.dtype}; expected "
                "(num_frames, height, width, 3) of uint8 RGB. Convert them first, for example with "
                "nemo_cosmos.video.tensor_to_frames for a model's output."
            )
        if min(frames.shape) < 1:
            raise VideoError(
                f"Frames have shape {frames.shape}, which contains no picture; expected at least "
                "one frame of at least one pixel."
            )
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise VideoError(
                f"The frame rate is {self.fps}; expected a positive number of frames per second."
            )
        if self.pts_s is not None and self.pts_s.shape != (self.num_frames,):
            raise VideoError(
                f"There are {self.num_frames} frames but timestamps of shape {self.pts_s.shape}; "
                "expected one timestamp in seconds for each frame, or None."
            )

    @property
    def num_frames(self) -> int:
        """Number of frames T."""
        return int(self.frames_THWC.shape[0])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.frames_THWC.shape[1])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.frames_THWC.shape[2])

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the end of the last one."""
        if self.pts_s is None:
            return self.num_frames / self.fps
        return float(self.pts_s[-1] - self.pts_s[0]) + 1 / self.fps
