"""Cut a clip into the windows that are captioned one by one, as cosmos-curate does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOW_FRAMES, REMAINDER_FRAMES = 256, 128


def caption_windows(
    num_frames: int,
    window_frames: int = WINDOW_FRAMES,
    remainder_frames: int = REMAINDER_FRAMES,
) -> list[tuple[int, int]]:
    """Windows of a clip as ``(first frame, frame after the last)``; they cover it without gap.

    What is left at the end is a window of its own from ``remainder_frames`` on; a shorter rest
    belongs to the last window.
    """
    ends = list(range(window_frames, num_frames + 1, window_frames))
    if not ends or num_frames - ends[-1] >= remainder_frames:
        ends.append(num_frames)
    ends[-1] = num_frames
    return list(zip([0, *ends[:-1]], ends, strict=True))


def window_frame_numbers(start: int, end: int, fps: float, sample_fps: float) -> NDArray[np.int64]:
    """Numbers of the frames of a window that a model is shown, ``sample_fps`` a second."""
    count = max(1, round((end - start) / fps * sample_fps))
    return start + ((np.arange(count) + 0.5) * (end - start) / count).astype(np.int64)
