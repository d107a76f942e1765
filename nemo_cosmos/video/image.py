"""Read a still picture as a video of one frame."""

from __future__ import annotations

import io
import os

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import VideoError
from nemo_cosmos.storage import open_url
from nemo_cosmos.video.frames import Video
from nemo_cosmos.video.source import Source, check_exists, read_bytes, source_name

IMAGE_FPS = 24.0
"""Frame rate given to a still picture: the base rate that the models are conditioned on."""

_HEAD_BYTES = 64 * 1024
_MJPEG = (".mjpeg", ".mjpg")
BACKGROUND = 255
"""White, as viewers of pictures show it: the colour behind transparent pixels."""

_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "F")


def is_image(source: Source) -> bool:
    """Whether a source is a PNG, JPEG, WebP or BMP picture, by its first bytes.

    An animated PNG is a video, and so are JPEG pictures in a row by the ending of such a file.
    """
    check_exists(source)
    if isinstance(source, bytes):
        head = source[:_HEAD_BYTES]
    else:
        with open_url(source) as handle:
            head = handle.read(_HEAD_BYTES)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"acTL" not in head.partition(b"IDAT")[0]
    if head.startswith(b"\xff\xd8\xff"):
        return isinstance(source, bytes) or not os.fspath(source).lower().endswith(_MJPEG)
    return head.startswith(b"BM") or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def read_image(source: Source, fps: float = IMAGE_FPS) -> Video:
    """Read a picture, upright by its EXIF orientation, as a video of one frame.

    What is transparent shows :data:`BACKGROUND`, not the colours that a file keeps below it.

    Args:
        source: a path, a URL, or the bytes of a PNG, JPEG, WebP or BMP file.
        fps: frame rate of the result.

    Raises:
        MissingFileError: nothing readable is there.
        VideoError: the file is not a picture, is truncated, or has more than 8 bits a channel.
    """
    from PIL import Image, ImageOps

    content = read_bytes(source)
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode in _WIDE_MODES:
                raise VideoError(
                    f"{source_name(source)} has pixels of type '{image.mode}'; "
                    "expected 8 bits a channel. Convert it to an 8-bit PNG or JPEG."
                )
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                frame_HWC = on_background(np.array(upright.convert("RGBA"), dtype=np.uint8))
            else:
                frame_HWC = np.array(upright.convert("RGB"), dtype=np.uint8)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(
            f"{source_name(source)} cannot be read as a picture: {error}. It is not "
            "an image or is truncated; check that a viewer shows it."
        ) from error
    return Video(frame_HWC[None], fps=fps)


def on_background(picture_HW4: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Compose RGBA pixels (not premultiplied) on :data:`BACKGROUND`; ``(H, W, 3)`` RGB."""
    alpha = picture_HW4[..., 3:].astype(np.uint32)
    mixed = picture_HW4[..., :3] * alpha + BACKGROUND * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)
