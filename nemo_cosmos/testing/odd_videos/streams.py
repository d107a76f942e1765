"""Rows of the table: several streams in one file, and several recordings in one."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from nemo_cosmos.testing.odd_videos.pictures import numbered
from nemo_cosmos.testing.odd_videos.row import OddVideo
from nemo_cosmos.testing.odd_videos.writing import add_pictures, add_sound, put_silence, write

#: The stream that nobody is to see shows these, the other one the usual ones.
_WRONG, _RIGHT = range(40, 64), range(24)


def _two_streams(
    path: Path,
    sizes: Sequence[tuple[int, int]],
    right: int,
    default: int | None = None,
    **muxer: str,
) -> None:
    """Two streams of pictures, of which one is right."""
    with av.open(str(path), "w", options=muxer) as output:
        streams = [add_pictures(output, size=size) for size in sizes]
        for place, stream in enumerate(streams):
            stream.disposition = Disposition.default if place == default else Disposition(0)
        for each in zip(_RIGHT, _WRONG, strict=True):
            for place, stream in enumerate(streams):
                picture = numbered(each[place != right], sizes[place])
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            output.mux(stream.encode(None))


def _with_cover(path: Path, has_video: bool = True) -> None:
    """A cover of 256x256 pixels in front of the pictures, or beside sound alone."""
    with av.open(str(path), "w") as output:
        cover = output.add_stream("mjpeg", rate=1)
        cover.height = cover.width = 256
        cover.pix_fmt = "yuvj420p"
        cover.disposition = Disposition.attached_pic
        stream = add_pictures(output) if has_video else None
        sound = None if has_video else add_sound(output, path)
        art = av.VideoFrame.from_ndarray(numbered(50, (256, 256)), format="rgb24")
        packets = [*cover.encode(art), *cover.encode(None)]
        if stream is not None:
            for number in _RIGHT:
                picture = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
                packets += stream.encode(picture)
            packets += stream.encode(None)
        output.mux(packets)
        if sound is not None:
            put_silence(output, sound, 1.0)


def _with_attachment(path: Path) -> None:
    """A font beside the pictures, and two chapters."""
    with av.open(str(path), "w") as output:
        stream = add_pictures(output)
        output.add_attachment("font.ttf", "application/x-truetype-font", bytes(5000))
        output.set_chapters(
            [
                {"id": 1, "start": start, "end": start + 500, "time_base": Fraction(1, 1000),
                 "metadata": {"title": str(start)}}
                for start in (0, 500)
            ]
        )  # fmt: skip
        for number in _RIGHT:
            picture = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


def joined(path: Path, parts: Sequence[dict[str, Any]]) -> None:
    """Recordings that were put into one file by ``cat``."""
    with path.open("wb") as file:
        for place, how in enumerate(parts):
            part = path.with_name(f"part {place} of {path.name}")
            write(part, **how)
            file.write(part.read_bytes())
            part.unlink()


_ONE, _OTHER = {"numbers": range(12)}, {"numbers": range(12, 24), "scene_from": 0}
_PS: dict[str, Any] = {"codec": "mpeg2video", "q": "2", "rate": 24, "container": "mpeg"}
_BOTH = ((64, 96), (96, 128))

ROWS = [
    OddVideo("second is default.mkv", "two streams of pictures: the second is the default one",
             partial(_two_streams, sizes=_BOTH[::-1], right=1, default=1)),
    OddVideo("first is default.mkv", "two streams: the default one is the smaller",
             partial(_two_streams, sizes=_BOTH, right=0, default=0)),
    OddVideo("largest.ts", "two streams: none is the default, the second is larger",
             partial(_two_streams, sizes=_BOTH, right=1), size=(96, 128)),
    OddVideo("cover first.mp4", "a cover in front of the pictures", _with_cover),
    OddVideo("cover alone.mp4", "sound with a cover", partial(_with_cover, has_video=False),
             numbers=(), seconds=0.0, rejected="not_a_video", lost_s={"not_a_video": 0.0}),
    OddVideo("chapters.mkv", "a font attached, and chapters", _with_attachment),
    OddVideo("long sound.mp4", "two seconds of sound beside one of pictures",
             partial(write, sound_s=2.0)),
    OddVideo("long sound.mkv", "two seconds of sound beside one of pictures",
             partial(write, sound_s=2.0)),
    OddVideo("short sound.mov", "half a second of sound", partial(write, sound_s=0.5, bf="2")),
    OddVideo("sound.webm", "WebM with sound",
             partial(write, codec="libvpx", crf="4", b="2M", sound_s=1.0)),
    OddVideo("joined.ts", "two recordings in one file: times begin again",
             partial(joined, parts=[_ONE, _OTHER]), as_ffmpeg=False),
    OddVideo("joined with reordering.ts", "two recordings with B-frames",
             partial(joined, parts=[_ONE | {"bf": "2"}, _OTHER | {"bf": "2"}]), as_ffmpeg=False),
    OddVideo("joined.mpg", "two program streams in one file",
             partial(joined, parts=[_ONE | _PS, _OTHER | _PS]), as_ffmpeg=False),
    OddVideo("joined.h264", "two bare streams in one file",
             partial(joined, parts=[_ONE | {"rate": 25}, _OTHER | {"rate": 25}]), seconds=0.96,
             as_ffmpeg=False),
]  # fmt: skip
