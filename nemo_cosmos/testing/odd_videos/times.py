"""Rows of the table: timestamps that vary, jump, begin elsewhere or are missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np

from nemo_cosmos.testing.odd_videos.row import OddVideo
from nemo_cosmos.testing.odd_videos.writing import copied, write

#: Twelve pictures at 24 a second, then twelve at eight a second.
TWO_RATES_S = [*np.arange(12) / 24, *(0.5 + np.arange(12) / 8)]
#: A camera that gives about 24 pictures a second when it can.
TREMBLING_S = np.arange(24) / 24 + np.tile([0, 0.009, -0.008, 0.004], 6)
_VP9 = {"codec": "libvpx-vp9", "cpu-used": "8"}


def _shifted(path: Path, offset_s: float, **how: str) -> None:
    """All timestamps later or earlier by so much."""
    plain = write(path.with_name(f"plain {path.name}"), bf="0")

    def move(packet: av.Packet, number: int) -> av.Packet:
        ticks = round(offset_s / (packet.time_base or 1))
        packet.pts, packet.dts = (packet.pts or 0) + ticks, (packet.dts or 0) + ticks
        return packet

    copied(plain, path, move, **how)
    plain.unlink()


def _jumping(path: Path, jump_s: float) -> None:
    """Timestamps that jump ahead after twelve pictures, at a keyframe."""
    plain = write(path.with_name(f"plain {path.name}.mp4"), g="12")

    def move(packet: av.Packet, number: int) -> av.Packet:
        if number >= 12:
            ticks = round(jump_s / (packet.time_base or 1))
            packet.pts, packet.dts = (packet.pts or 0) + ticks, (packet.dts or 0) + ticks
        return packet

    copied(plain, path, move)
    plain.unlink()


def _two_edits(path: Path) -> None:
    """An edit list that shows the first half and the last quarter."""
    write(path, bf="0")
    content = path.read_bytes()

    def number(name: bytes, offset: int) -> int:
        place = content.index(name) + offset
        return int.from_bytes(content[place : place + 4], "big")

    file_ticks, ticks = number(b"mvhd", 16), number(b"mdhd", 16)  # a second's
    parts = [(file_ticks // 2, 0), (file_ticks // 4, 3 * ticks // 4)]
    entries = [value for length, start in parts for value in (length, start, 1 << 16)]
    packed = b"".join(value.to_bytes(4, "big") for value in (len(parts), *entries))
    start = content.index(b"elst")
    end = start - 4 + number(b"elst", -4)
    longer = bytearray(content[: start + 8] + packed + content[end:])
    added = len(longer) - len(content)
    # The boxes around it grow; the index is at the end of the file, so no frame moves.
    for box in (b"elst", b"edts", b"trak", b"moov"):
        place = longer.rindex(box, 0, start + 4) - 4
        size = int.from_bytes(longer[place : place + 4], "big") + added
        longer[place : place + 4] = size.to_bytes(4, "big")
    path.write_bytes(longer)


def _twice(path: Path) -> None:
    """Two pictures that bear the time of the one before them."""
    times_s = list(np.arange(24) / 24)
    plain = write(path.with_name(f"plain {path.name}"), times_s=times_s)

    def move(packet: av.Packet, number: int) -> av.Packet:
        if number in (5, 6):
            packet.pts = packet.dts = round(4 / 24 * 1000)
        return packet

    copied(plain, path, move)
    plain.unlink()


def _skipped(path: Path) -> None:
    """AVI in which pictures are left out, so that the ones before them stand longer."""
    times_s = [number / 24 for number in range(30) if number not in (6, 7, 13, 20, 21, 22)]
    write(path, codec="mpeg4", q="2", times_s=times_s, prepare=_ticks_of_a_frame)


def _ticks_of_a_frame(stream: av.VideoStream) -> None:
    stream.codec_context.time_base = Fraction(1, 24)


def _varying(times_s: Sequence[float], **how: object) -> Callable[[Path], object]:
    return partial(write, times_s=[float(time) for time in times_s], **how)  # type: ignore[arg-type]


ROWS = [
    OddVideo("slow.mp4", "one frame a second", partial(write, rate=1), seconds=24),
    OddVideo("fast.mp4", "120 frames a second", partial(write, rate=120), seconds=0.2),
    OddVideo("film.mp4", "24000/1001 frames a second",
             partial(write, rate=Fraction(24000, 1001)), seconds=1.001),
    OddVideo("broadcast.ts", "60000/1001 frames a second",
             partial(write, rate=Fraction(60000, 1001)), seconds=0.4004),
    OddVideo("two rates.mp4", "24, then 8 frames a second", _varying(TWO_RATES_S), seconds=2.0),
    OddVideo("two rates.mkv", "24, then 8 frames a second", _varying(TWO_RATES_S, bf="2"),
             seconds=2.0),
    OddVideo("two rates.ts", "24, then 8 frames a second", _varying(TWO_RATES_S), seconds=2.0),
    OddVideo("two rates.flv", "24, then 8 frames a second", _varying(TWO_RATES_S), seconds=2.0),
    OddVideo("recorder.webm", "a browser's MediaRecorder: rate varies, no length",
             _varying(TWO_RATES_S, muxer={"live": "1"}, **_VP9), seconds=2.0),
    OddVideo("telephone.mov", "a telephone: times tremble", _varying(TREMBLING_S), seconds=1.013),
    OddVideo("repeats.avi", "AVI with empty packets, which repeat the frame before", _skipped,
             seconds=30 / 24),
    OddVideo("same times.mkv", "three frames of one time", _twice),
    OddVideo("edit list.mp4", "an edit list that hides the first five frames",
             partial(_shifted, offset_s=-5 / 24, avoid_negative_ts="disabled"),
             numbers=range(5, 24), seconds=19 / 24),
    OddVideo("two edits.mp4", "an edit list that leaves out a part in the middle", _two_edits,
             (*range(12), *range(18, 24)), 0.75),
    OddVideo("late.mp4", "an edit list that shows nothing for two seconds",
             partial(_shifted, offset_s=2.0)),
    OddVideo("negative.mkv", "begins before zero",
             partial(_shifted, offset_s=-5 / 24, avoid_negative_ts="disabled")),
    OddVideo("ten hours.ts", "begins at ten hours",
             partial(_shifted, offset_s=36000.0, mpegts_copyts="1")),
    OddVideo("wrap.ts", "a clock of 33 bits that runs over",
             partial(_shifted, offset_s=2**33 / 90000 - 0.5, mpegts_copyts="1")),
    OddVideo("jump.mkv", "an hour is missing after half a second", partial(_jumping, jump_s=3600.0),
             seconds=3601.0, lost_s={"gap": 3600 + 1 / 24}),
    OddVideo("jump.ts", "times jump by an hour after half a second",
             partial(_jumping, jump_s=3600.0), as_ffmpeg=False),
]  # fmt: skip
