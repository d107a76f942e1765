"""Where encoded video comes from (a path, a URL, the bytes of a file) and how opening it fails."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import av
from av.stream import Disposition

from nemo_cosmos.errors import MissingFileError, VideoError
from nemo_cosmos.storage import is_url, open_url

Source = str | os.PathLike[str] | bytes
"""A local path, a URL that fsspec knows, or a whole file in memory (a member of a shard)."""

# A title in Latin-1 must not make a video unreadable; PyAV 19 is lenient by default.
_LENIENT: dict[str, object] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)


#: More than a decoder holds back, with a thread for each frame.
_FLUSH_TRIES = 64


def source_name(source: Source) -> str:
    """The name of a source for messages, in quotes."""
    if isinstance(source, bytes):
        return f"'<{len(source)} bytes in memory>'"
    return f"'{os.fspath(source)}'"


def read_bytes(source: Source) -> bytes:
    """Return the whole encoded file.

    Raises:
        MissingFileError: nothing readable is there.
    """
    if isinstance(source, bytes):
        return source
    check_exists(source)
    with open_url(source) as handle:
        content: bytes = handle.read()
    return content


def check_exists(source: Source) -> None:
    """Refuse a path that is not a readable, non-empty file.

    Raises:
        MissingFileError: there is no file, or it may not be read.
        VideoError: the file is empty.
    """
    if isinstance(source, bytes):
        size_bytes = len(source)
    elif is_url(source):
        return
    else:
        path = Path(source)
        if not path.exists():
            raise MissingFileError(
                f"There is no file '{path}'. Check the spelling; a relative path starts at "
                f"'{Path.cwd()}'."
            )
        if not os.access(path, os.R_OK):
            raise MissingFileError(
                f"'{path}' may not be read by this user. Change its permissions, or run as its "
                "owner."
            )
        if not path.is_file():
            raise MissingFileError(
                f"'{path}' is a folder or a pipe, expected a video or image file. Name a file."
            )
        size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise VideoError(
            f"{source_name(source)} is empty (0 bytes), expected a video. The "
            "download or the recording that wrote it probably failed; fetch it again."
        )


@contextmanager
def open_video(source: Source) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a source for demuxing; yield ``(container, video stream)`` of PyAV.

    Of several video streams it is the one that a player shows; see :func:`chosen_stream`. Errors of
    FFmpeg inside the block become :class:`VideoError` too.

    Raises:
        MissingFileError: nothing readable is there.
        VideoError: it is empty, not a video, or has no video stream.
    """
    check_exists(source)
    with ExitStack() as stack, explained(source):
        if isinstance(source, bytes):
            opened: object = io.BytesIO(source)
        elif is_url(source):
            opened = stack.enter_context(open_url(source))
        else:
            opened = os.fspath(source)
        container = stack.enter_context(av.open(opened, **_LENIENT))
        stream = chosen_stream(container)
        if stream is None and any(each.codec_context is None for each in container.streams.video):
            raise VideoError(
                f"{source_name(source)} does not say how its video is coded: it was cut off in its "
                "header, or its codec is unknown. Copy the file again, or leave it out."
            )
        if stream is None:
            kinds = sorted({stream.type for stream in container.streams}) or ["no streams"]
            raise VideoError(
                f"{source_name(source)} has no video stream (it contains: "
                f"{', '.join(kinds)}). Expected a file with pictures; leave it out, or choose "
                "the file that carries the video."
            )
        stream.thread_type = "AUTO"  # frame threads as well as slice threads
        yield container, stream


def chosen_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The stream of pictures that a player shows: the default one, else the largest, as in FFmpeg.

    Cover art and other pictures that are attached to a file are no video.
    """
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    streams = [
        each
        for each in container.streams.video
        # A file that was cut off in its header may name a stream and not how it is coded.
        if not each.disposition & pictures and each.codec_context is not None
    ]
    default = [each for each in streams if each.disposition & Disposition.default]
    return max(
        default or streams,
        key=lambda each: each.codec_context.width * each.codec_context.height,
        default=None,
    )


def decode_packets(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    before: Callable[[av.Packet], None] | None = None,
    refused: list[int] | None = None,
    is_counting: bool = False,
) -> Iterator[av.VideoFrame]:
    """Decode from here to the end, as FFmpeg does: what cannot be decoded is passed over.

    Args:
        container: the open file.
        stream: its video stream.
        before: callback with each packet before it is decoded.
        refused: list to which the place of each packet is added at which the decoder reported an
            error; frame threads report it some packets late.
        is_counting: whether to replace each packet's timestamps, which the decoder passes on to its
            frame, by its place among those that were read here, from 0.

    Yields:
        Frames in the order shown.
    """
    for number, packet in enumerate(_readable(container, stream)):
        if before is not None:
            before(packet)
        if is_counting and packet.size:
            packet.pts = packet.dts = number
        # After an error in the flush, the frames after that one are still in the decoder.
        is_flush = packet.size == 0 and packet.dts is None
        for _ in range(_FLUSH_TRIES if is_flush else 1):
            try:
                yield from packet.decode()
            except av.error.FFmpegError as error:
                if isinstance(error, MemoryError):
                    raise
                if isinstance(error, EOFError):
                    break
                if refused is not None:
                    refused.append(number)
            else:
                break


def _readable(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.Packet]:
    """The packets up to the end, or up to where the container is too damaged to go on."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.InvalidDataError:
            return
        if packet is None:
            return
        yield packet


@contextmanager
def explained(source: Source) -> Iterator[None]:
    """Within the block, errors of FFmpeg about this source become :class:`VideoError`."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise VideoError(
            f"{source_name(source)} cannot be decoded: {error.strerror}. It is "
            "not a video, is truncated, or is damaged. Check that the download finished and "
            "that a player shows it; otherwise leave it out."
        ) from error
