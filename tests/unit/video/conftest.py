"""Clips whose frames can be told apart, and muxers for the awkward ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


def place_of_square(frame_HWC: np.ndarray) -> int:
    """Column where the bright square of ``moving_square_THWC`` begins; scales with the width."""
    return int(np.argmax(frame_HWC[28, :, 0] > 150))


@pytest.fixture
def numbers_of(moving_square_THWC: np.ndarray) -> Callable[[np.ndarray], list[int]]:
    """Tell which frames of ``moving_square_THWC`` these are, by the place of the square."""
    return lambda frames_THWC: [(place_of_square(frame) - 4) // 2 for frame in frames_THWC]


@pytest.fixture
def mux(moving_square_THWC: np.ndarray, tmp_path: Path) -> Callable[..., Path]:
    """Write frames with given integer timestamps into a container of any kind."""

    def write(
        name: str,
        pts: Sequence[int],
        time_base: Fraction = Fraction(1, 24),
        keyframe_interval: int = 8,
        container_options: dict[str, str] | None = None,
        **stream_options: str,
    ) -> Path:
        path = tmp_path / name
        options = {"avoid_negative_ts": "disabled", **(container_options or {})}
        with av.open(str(path), "w", options=options) as container:
            codec_options = {"crf": "1", **stream_options}
            stream = container.add_stream("libx264", rate=24, options=codec_options)
            stream.height, stream.width = moving_square_THWC.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.codec_context.gop_size = keyframe_interval
            stream.codec_context.time_base = time_base
            container.start_encoding()
            for stamp, frame_HWC in zip(pts, moving_square_THWC, strict=False):
                frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
                frame.pts, frame.time_base = stamp, time_base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def sound_only(tmp_path: Path) -> Path:
    """An mp4 that holds sound alone."""
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for number in range(8):
            tone = np.zeros((1, 1024), dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, 1024 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def rotate_mp4() -> Callable[[Path], None]:
    """Set the display matrix of an mp4 to a quarter turn clockwise, as telephones do."""

    def rotate(path: Path) -> None:
        content = bytearray(path.read_bytes())
        matrix = content.index(b"tkhd") + 4 + 40
        quarter_turn = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
        packed = b"".join(number.to_bytes(4, "big", signed=True) for number in quarter_turn)
        content[matrix : matrix + 36] = packed
        path.write_bytes(content)

    return rotate
