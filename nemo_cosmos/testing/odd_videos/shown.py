"""Rows of the table: pictures that are shown in another way than they are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.testing.odd_videos.pictures import SIZE, Picture, numbered
from nemo_cosmos.testing.odd_videos.row import NUM_PICTURES, OddVideo
from nemo_cosmos.testing.odd_videos.writing import X265, add_pictures

#: FFmpeg's (ITU-T H.273) numbers.
_BT2020, _PQ, _HLG = 9, 16, 18
_AS_FIELDS = {"x264-params": "tff=1"}
_WHITE_NITS, _HLG_NITS = 203.0, 1000.0
_709_TO_2020 = np.array(
    [[0.627404, 0.329283, 0.043313], [0.069097, 0.919540, 0.011362], [0.016391, 0.088013, 0.895595]]
)
#: How a picture is stored, and the matrix of the MP4 by which a player shows it: a, b, c and d, by
#: which a place (x, y) becomes (a x + c y, b x + d y).
_MATRICES: dict[str, tuple[Callable[[Picture], Picture], tuple[int, int, int, int]]] = {
    "90": (lambda picture: np.rot90(picture, 1), (0, 1, -1, 0)),
    "180": (lambda picture: np.rot90(picture, 2), (-1, 0, 0, -1)),
    "270": (lambda picture: np.rot90(picture, 3), (0, -1, 1, 0)),
    "mirror": (lambda picture: picture[:, ::-1], (-1, 0, 0, 1)),
    "flip": (lambda picture: picture[::-1], (1, 0, 0, -1)),
    "mirror 90": (lambda picture: picture.transpose(1, 0, 2), (0, 1, 1, 0)),
}


def _write_frames(
    path: Path,
    frames: Iterable[av.VideoFrame],
    size: tuple[int, int] = SIZE,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    context: Mapping[str, int] | None = None,
    options: Mapping[str, str] | None = None,
) -> None:
    with av.open(str(path), "w") as output:
        stream = add_pictures(output, codec, pix_fmt, size=size, options=options)
        for name, value in (context or {}).items():
            setattr(stream.codec_context, name, value)
        for frame in frames:
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _turned(path: Path, turn: str) -> None:
    """Stored so that it is upright after a player's turn, as telephones do."""
    stored, matrix = _MATRICES[turn]
    pictures = [np.ascontiguousarray(stored(numbered(number))) for number in range(NUM_PICTURES)]
    frames = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in pictures]
    _write_frames(path, frames, (pictures[0].shape[0], pictures[0].shape[1]))
    a, b, c, d = (value << 16 for value in matrix)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    numbers = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    content[place : place + 36] = b"".join(each.to_bytes(4, "big", signed=True) for each in numbers)
    path.write_bytes(content)


def _fields(path: Path) -> None:
    """Each frame holds the lines of two pictures that were taken one after the other."""
    frames = []
    for number in range(0, 2 * NUM_PICTURES, 2):
        woven = numbered(number)
        woven[1::2] = numbered(number + 1)[1::2]
        frame = av.VideoFrame.from_ndarray(woven, format="rgb24")
        frames.append(frame.reformat(format="yuv420p", interpolation="POINT"))
    _write_frames(path, frames, options=_AS_FIELDS)


def _whole_frames_flagged(path: Path) -> None:
    frames = [
        av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
        for number in range(NUM_PICTURES)
    ]
    _write_frames(path, frames, options=_AS_FIELDS)


def _hdr(
    path: Path,
    transfer: int,
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
) -> None:
    """Pictures of ten bits that look like the usual ones when they are shown in standard range."""
    context = {
        "colorspace": _BT2020, "color_primaries": _BT2020, "color_trc": transfer, "color_range": 1,
    }  # fmt: skip
    frames = [_hdr_frame(numbered(number), transfer) for number in range(NUM_PICTURES)]
    _write_frames(path, frames, SIZE, codec, "yuv420p10le", context, options)


def _hdr_frame(picture_HWC: Picture, transfer: int) -> av.VideoFrame:
    light_HWC = (picture_HWC / 255) ** 2.4 @ _709_TO_2020.T
    code_HWC = _pq_of(light_HWC) if transfer == _PQ else _hlg_of(light_HWC)
    red, green, blue = np.moveaxis(code_HWC, -1, 0)
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    height, width = luma.shape
    planes = [64 + 876 * luma]
    for difference in ((blue - luma) / 1.8814, (red - luma) / 1.4746):
        quarter = difference.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
        planes.append(512 + 896 * quarter)
    stacked = np.concatenate([np.rint(plane).astype(np.uint16).ravel() for plane in planes])
    return av.VideoFrame.from_ndarray(stacked.reshape(-1, width), format="yuv420p10le")


def _pq_of(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084."""
    power = (np.maximum(light, 0) * _WHITE_NITS / 10_000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def _hlg_of(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2100, for a display of 1,000 cd/m2."""
    share = np.maximum(light, 0) * _WHITE_NITS / _HLG_NITS
    shown = (share @ np.array([0.2627, 0.6780, 0.0593]))[..., None]
    scene = share / np.maximum(shown, 1e-9) ** (0.2 / 1.2)
    bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)


_EVERY_OTHER = range(0, 2 * NUM_PICTURES, 2)
ROWS = [
    *(OddVideo(f"turned {turn}.mp4", f"a telephone's: shown after {turn} degrees clockwise",
               partial(_turned, turn=turn)) for turn in ("90", "180", "270")),
    OddVideo("turned.mov", "QuickTime of a telephone held upright", partial(_turned, turn="90")),
    OddVideo("mirrored.mp4", "a front camera's: stored mirrored", partial(_turned, turn="mirror")),
    OddVideo("flipped.mov", "stored upside down", partial(_turned, turn="flip")),
    OddVideo("mirrored and turned.mp4", "a front camera held upright",
             partial(_turned, turn="mirror 90")),
    OddVideo("fields.mp4", "interlaced H.264, the even lines first",
             _fields, _EVERY_OTHER),
    OddVideo("fields.ts", "interlaced H.264 of a broadcast", _fields, _EVERY_OTHER),
    OddVideo("whole frames.mp4", "whole frames that are flagged as fields", _whole_frames_flagged),
    OddVideo("pq.mp4", "high dynamic range: PQ", partial(_hdr, transfer=_PQ)),
    OddVideo("hlg.mov", "high dynamic range of a telephone: HLG, H.265",
             partial(_hdr, transfer=_HLG, codec="libx265", options=X265)),
]  # fmt: skip
