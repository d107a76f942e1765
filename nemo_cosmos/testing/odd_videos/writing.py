"""Write numbered pictures into containers of any kind, as FFmpeg does, without our own care."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from nemo_cosmos.testing.odd_videos.pictures import SIZE, numbered
from nemo_cosmos.testing.odd_videos.row import NUM_PICTURES, RATE

#: Of timestamps that are given in seconds.
_TICKS = 90_000
#: Options of x265 for such pictures.
X265: dict[str, Any] = {
    "x265-params": "log-level=none:keyint=8", "crf": "12", "preset": "ultrafast",
}  # fmt: skip


def write(
    path: Path,
    numbers: Iterable[int] = range(NUM_PICTURES),
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: float | Fraction = RATE,
    times_s: Sequence[float] | None = None,
    size: tuple[int, int] = SIZE,
    scene_from: int = 64,
    sound_s: float = 0.0,
    container: str | None = None,
    muxer: Mapping[str, str] | None = None,
    prepare: Callable[[av.VideoStream], object] | None = None,
    **options: str,
) -> Path:
    """Encode numbered pictures; returns the path.

    Args:
        path: the file.
        numbers: numbers of the pictures, in the order shown.
        codec: FFmpeg's name of an encoder.
        pix_fmt: FFmpeg's name of a pixel format.
        rate: pictures a second.
        times_s: when each is shown; by default evenly.
        size: height and width.
        scene_from: number from which on the pictures are another shot.
        sound_s: seconds of silence beside them.
        container: FFmpeg's name of a muxer; by default that of the path's ending.
        muxer: the muxer's options.
        prepare: changes the stream before it is opened.
        options: the encoder's options, such as ``bf`` or ``g``.
    """
    settings = dict(muxer or {})
    with av.open(str(path), "w", format=container, options=settings) as output:
        stream = add_pictures(output, codec, pix_fmt, rate, size, options)
        if times_s is not None:
            stream.codec_context.time_base = Fraction(1, _TICKS)
        if prepare is not None:
            prepare(stream)
        sound = add_sound(output, path) if sound_s else None
        for place, number in enumerate(numbers):
            scene = int(number >= scene_from)
            frame = av.VideoFrame.from_ndarray(numbered(number, size, scene), format="rgb24")
            if times_s is not None:
                frame.pts, frame.time_base = round(times_s[place] * _TICKS), Fraction(1, _TICKS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if sound is not None:
            put_silence(output, sound, sound_s)
    return path


def add_pictures(
    output: av.container.OutputContainer,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: float | Fraction = RATE,
    size: tuple[int, int] = SIZE,
    options: Mapping[str, str] | None = None,
) -> av.VideoStream:
    """A stream of pictures with a keyframe every eight and without B-frames, unless told."""
    defaults = {"g": "8", "bf": "0"}
    if codec == "libx264":
        defaults |= {"preset": "ultrafast", "crf": "12", "sc_threshold": "0"}
    chosen = {**defaults, **(options or {})}
    exact = rate if isinstance(rate, Fraction) else Fraction(rate).limit_denominator(1001)
    stream: av.VideoStream = output.add_stream(codec, rate=exact, options=chosen)
    stream.height, stream.width = size
    stream.pix_fmt = pix_fmt
    stream.codec_context.thread_count = 1
    return stream


def add_sound(output: av.container.OutputContainer, path: Path) -> av.AudioStream:
    """A stream of sound that the container takes."""
    codec = {".webm": "libopus", ".mpg": "mp2", ".wmv": "wmav2"}.get(path.suffix, "aac")
    stream: av.AudioStream = output.add_stream(codec, rate=48_000, layout="stereo")
    return stream


def put_silence(
    output: av.container.OutputContainer, stream: av.AudioStream, length_s: float
) -> None:
    """Encode silence."""
    chosen = stream.codec_context.format.name
    kind = {"fltp": np.float32, "flt": np.float32, "s16": np.int16, "s16p": np.int16}[chosen]
    rows = 2 if chosen.endswith("p") else 1
    for number in range(int(length_s * 50)):
        samples = np.zeros((rows, 960 * (3 - rows)), dtype=kind)
        frame = av.AudioFrame.from_ndarray(samples, format=chosen, layout="stereo")
        frame.sample_rate, frame.pts = 48_000, 960 * number
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def copied(
    source: Path,
    path: Path,
    change: Callable[[av.Packet, int], av.Packet | None] | None = None,
    **muxer: str,
) -> Path:
    """Mux the packets of a file again, each changed or dropped by a function; the path."""
    with av.open(str(source)) as container, av.open(str(path), "w", options=muxer) as output:
        stream = container.streams.video[0]
        target = output.add_stream_from_template(stream)
        for number, packet in enumerate(container.demux(stream)):
            if packet.dts is None:
                continue
            kept = packet if change is None else change(packet, number)
            if kept is not None:
                kept.stream = target
                output.mux(kept)
    return path


def spoilt(path: Path, change: Callable[[bytearray], object]) -> Path:
    """Change the bytes of a file; the path."""
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    return path
