"""HDR is mapped to standard range: known levels of light, known colours, real 10-bit files."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from nemo_cosmos.errors import VideoError
from nemo_cosmos.video import decode, probe
from nemo_cosmos.video.tone import roll_off, tone_map


def pq_code(nits: float) -> int:
    """SMPTE ST 2084's inverse curve, written out independently."""
    y = (nits / 10_000) ** (2610 / 16384)
    value = ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)
    return round(value * 65535)


def grey(code: int) -> np.ndarray:
    return np.full((2, 2, 3), code, dtype=np.uint16)


@pytest.mark.parametrize("nits", [0.0, 1.0, 20.0, 100.0])
def test_light_below_the_knee_is_kept(nits):
    expected = 255 * (nits / 203) ** (1 / 2.4)
    assert tone_map(grey(pq_code(nits)), "pq") == pytest.approx(expected, abs=1.5)


def test_highlights_roll_off_and_stay_in_order():
    levels = [int(tone_map(grey(pq_code(nits)), "pq")[0, 0, 0]) for nits in (203, 400, 1000, 10000)]
    assert levels == sorted(levels)
    assert 230 < levels[0] < 250
    assert levels[-1] == 255
    light = np.linspace(0, 20, 500, dtype=np.float32)
    assert np.all(np.diff(roll_off(light)) >= 0)


def test_hlg_reference_white():
    """BT.2408: 75 % HLG is 203 cd/m2 on a display of 1,000."""
    hlg, pq = tone_map(grey(round(0.75 * 65535)), "hlg"), tone_map(grey(pq_code(203)), "pq")
    assert np.abs(hlg.astype(int) - pq).max() <= 1


def test_hue_is_kept_and_the_gamut_fits():
    code = np.array([[[pq_code(800), pq_code(100), pq_code(100)]]], dtype=np.uint16)
    red, green, blue = tone_map(code, "pq")[0, 0].tolist()
    assert red > 240
    assert green < red and blue < red


def write_hdr(path: Path, transfer: int, planes: tuple[int, int, int]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.colorspace = context.color_primaries = 9
        context.color_trc, context.color_range = transfer, 1
        for number in range(3):
            frame = av.VideoFrame(64, 64, "yuv420p10le")
            for plane, value in zip(frame.planes, planes, strict=True):
                plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_a_file_in_pq(tmp_path):
    luma = round(64 + 876 * pq_code(100) / 65535)
    write_hdr(tmp_path / "v.mp4", 16, (luma, 512, 512))
    info = probe(tmp_path / "v.mp4")
    assert (info.hdr, info.pixel_format) == ("pq", "yuv420p10le")
    expected = 255 * (100 / 203) ** (1 / 2.4)
    assert decode(tmp_path / "v.mp4").frames_THWC == pytest.approx(expected, abs=4)
    with pytest.raises(VideoError, match="high dynamic range"):
        decode(tmp_path / "v.mp4", backend="dali")


def test_ten_bits_alone_are_not_hdr(tmp_path):
    write_hdr(tmp_path / "v.mp4", 1, (502, 512, 512))
    assert probe(tmp_path / "v.mp4").hdr == ""
    assert decode(tmp_path / "v.mp4").frames_THWC == pytest.approx(128, abs=2)
