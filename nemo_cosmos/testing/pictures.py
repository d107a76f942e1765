"""Videos whose pictures are awkward to read: pixels that are not square, interlaced frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 25
#: x264's options for frames that are coded as fields, by whether the top field is first.
INTERLACED = {True: {"x264-params": "tff=1"}, False: {"x264-params": "bff=1"}}
Frames = NDArray[np.uint8]


def scenery(num_frames: int, height: int = 96, width: int = 128, speed_px: int = 2) -> Frames:
    """RGB frames of smooth shapes that drift sideways, so that combs come from fields alone."""
    y, x = np.mgrid[:height, : width + speed_px * num_frames]
    picture = 128 + 60 * np.sin(x / 5) * np.cos(y / 9) + 50 * np.sin((x + 2 * y) / 17)
    grey = np.clip(picture, 0, 255).astype(np.uint8)
    frames = [grey[:, speed_px * number :][:, :width] for number in range(num_frames)]
    return np.repeat(np.stack(frames)[..., None], 3, axis=-1)


def woven(frames_THWC: Frames, top_first: bool = True) -> Frames:
    """Interlaced frames: fields of neighbouring frames of twice the rate."""
    frames = frames_THWC[::2].copy()
    late = 1 if top_first else 0
    frames[:, late::2] = frames_THWC[1::2, late::2]
    return frames


def write_video(
    path: Path,
    frames_THWC: Frames,
    pixel_aspect: Fraction | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    **options: str,
) -> Path:
    """Encode RGB frames as FFmpeg would, without any of the product's own care; the path."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width = frames_THWC.shape[1:3]
        stream.pix_fmt = pix_fmt
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        stream.codec_context.gop_size = 12
        for frame_HWC in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        container.mux(stream.encode(None))
    return path
