"""Where encoded video comes from (a path, a URL, the bytes of a file) and how opening it fails."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import av

from nemo_cosmos.errors import MissingFileError, VideoError
from nemo_cosmos.storage import is_url, open_url

Source = str | os.PathLike[str] | bytes
"""A local path, a URL that fsspec knows, or a whole file in memory (a member of a shard)."""

# A title in Latin-1 must not make a video unreadable; PyAV 19 is lenient by default.
_LENIENT: dict[str, object] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)


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
    """Open a source for demuxing; yield ``(container, first video stream)`` of PyAV.

    Errors of FFmpeg inside the block become :class:`VideoError` too.

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
        if not container.streams.video:
            kinds = sorted({stream.type for stream in container.streams}) or ["no streams"]
            raise VideoError(
                f"{source_name(source)} has no video stream (it contains: "
                f"{', '.join(kinds)}). Expected a file with pictures; leave it out, or choose "
                "the file that carries the video."
            )
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"  # frame threads as well as slice threads
        yield container, stream


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
