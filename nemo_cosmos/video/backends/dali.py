"""Decode with NVIDIA DALI: NVDEC where there is a GPU, and H.264 on the CPU without a driver.

DALI 2.0 converts YUV to RGB with the BT.601 matrix whatever the stream declares, so a stream that
is tagged BT.709 is corrected here, on the device that decodes. Colours that DALI has clipped to the
RGB cube stay clipped, by a few levels in fully saturated areas.

A file has one pipeline. Each run of it opens the file again and looks for a keyframe, so it is
given as many frames as memory allows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import VideoError
from nemo_cosmos.platform.dependencies import has, require
from nemo_cosmos.video.index.probe import FrameIndex
from nemo_cosmos.video.source import Source, read_bytes, source_name

if TYPE_CHECKING:
    from nvidia.dali import Pipeline

BT709 = 1
BYTES_PER_RUN = 256 << 20
"""Decoded frames that one run of a pipeline holds, on the GPU or in memory."""

# Luma weights of red and blue.
_KR_KB_601 = (0.299, 0.114)
_KR_KB_709 = (0.2126, 0.0722)
_BUILD_LOCK = threading.Lock()


class Limits(NamedTuple):
    """What a video engine takes of one codec.

    Attributes:
        least: smallest ``(height, width)`` of the coded picture.
        most: largest ``(height, width)``.
        formats: FFmpeg's names of the pixel formats.
    """

    least: tuple[int, int]
    most: tuple[int, int]
    formats: tuple[str, ...] = ("yuv420p", "yuvj420p")


NVDEC = {
    "h264": Limits((16, 48), (4096, 4096)),
    "hevc": Limits((144, 144), (8192, 8192)),
    "vp8": Limits((16, 48), (4096, 4096)),
    "vp9": Limits((128, 128), (8192, 8192)),
    "av1": Limits((128, 128), (8192, 8192)),
    "mpeg4": Limits((16, 48), (2032, 2032)),
}
"""What the video engines of Ampere and later GPUs have in common (NVIDIA's NVDEC programming
guide). DALI asks the driver, but raises the answer through the driver's own callback."""


def decodes_on_gpu() -> bool:
    """Whether there is a GPU, and a DALI that decodes numbered frames."""
    return _device_id() is not None and has("nvidia.dali") and _decodes_numbered_frames()


def _decodes_numbered_frames() -> bool:
    """Whether the installed DALI has the decoder that is used; images may have an older one."""
    from nvidia.dali import backend

    schema = backend.TryGetSchema("decoders__Video")  # type: ignore[attr-defined]
    return schema is not None and bool(schema.HasArgument("frames"))


def read_frames(
    source: Source, index: FrameIndex, wanted: NDArray[np.int64]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the wanted frames as stored; see :func:`nemo_cosmos.video.backends.pyav.read_frames`.

    Raises:
        MissingDependencyError: DALI is not installed.
        VideoError: DALI cannot decode the stream, its frames are not those of the index, or this
            process was forked from one that uses the GPU.
    """
    require("nvidia.dali", "decoding video with backend='dali'")
    try:
        device_id = _device_id()
    except RuntimeError as error:  # CUDA was used before this process was forked
        reason = " ".join(str(error).split())[:300]
        raise VideoError(
            f"DALI cannot decode {source_name(source)} in this process, which cannot use the GPU: "
            f"{reason} Use backend='pyav' in worker processes."
        ) from error
    if device_id is not None:
        _check_engine(index, source)
    encoded = np.frombuffer(read_bytes(source), dtype=np.uint8)
    matrix = _rgb_601_to(*_KR_KB_709) if index.color_space == BT709 else None
    height, width = index.stored_size
    frames_per_run = max(1, BYTES_PER_RUN // (height * width * 3))
    pipeline = None
    for start in range(0, len(wanted), frames_per_run):
        numbers = wanted[start : start + frames_per_run]
        try:
            pipeline = pipeline or build_pipeline(device_id, matrix)
            frames_THWC = _run(pipeline, encoded, numbers)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise VideoError(
                f"DALI cannot decode {source_name(source)}: {reason} Use backend='pyav', which "
                "supports more formats."
            ) from error
        if frames_THWC.shape[1:3] != index.stored_size or len(frames_THWC) != len(numbers):
            raise VideoError(
                f"DALI gave frames of shape {frames_THWC.shape} for {source_name(source)}, "
                f"expected {len(numbers)} of {index.stored_size}. Use backend='pyav'."
            )
        for frame_HWC in frames_THWC:
            # The GPU has corrected them; on the CPU OpenCV is ten times faster than DALI. Copied,
            # one by one: the next run writes where these are.
            plain = matrix is None or device_id is not None
            yield frame_HWC.copy() if plain else cv2.transform(frame_HWC, matrix)


def build_pipeline(device_id: int | None, matrix: NDArray[np.float32] | None) -> Pipeline:
    """Build what decodes numbered frames of the file that is fed to it.

    Args:
        device_id: number of the CUDA device; ``None`` decodes on the CPU.
        matrix: what colours are multiplied with on a GPU; ``None`` leaves them alone.
    """
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=1, num_threads=1, device_id=device_id, prefetch_queue_depth=1)  # type: ignore[untyped-decorator]
    def pipeline() -> object:
        data = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
        numbers = fn.external_source(name="numbers", dtype=types.INT32, ndim=1)
        device = "cpu" if device_id is None else "mixed"
        frames = fn.decoders.video(data, device=device, frames=numbers)
        if matrix is None or device_id is None:
            return frames
        return correct_colors(frames, matrix)

    # DALI keeps the pipeline under construction in a global, so threads take turns to build.
    with _BUILD_LOCK:
        built: Pipeline = pipeline()
        built.build()
    return built


def correct_colors(frames: object, matrix: NDArray[np.float32]) -> object:
    """Multiply the colours of frames in a pipeline with a matrix, rounded to whole levels.

    Args:
        frames: DALI's node of uint8 RGB frames, on any device.
        matrix: ``(3, 3)``.
    """
    from nvidia.dali import fn, types

    return fn.coord_transform(frames, M=matrix.ravel().tolist(), dtype=types.UINT8)


def _run(
    pipeline: Pipeline, encoded: NDArray[np.uint8], numbers: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Decode these frames of the file; ``(T, H, W, 3)``, valid until the next run."""
    pipeline.feed_input("encoded", [encoded])
    pipeline.feed_input("numbers", [numbers.astype(np.int32)])
    (output,) = pipeline.run()
    host = output if pipeline.device_id is None else output.as_cpu()
    return np.asarray(host[0])


def _check_engine(index: FrameIndex, source: Source) -> None:
    """Require a stream that every GPU's video engine takes.

    Raises:
        VideoError: it is of another codec or pixel format, too small or too large.
    """
    codec, found, pixels = index.info.codec, index.stored_size, index.info.pixel_format
    limits = NVDEC.get(codec)
    what = f"{source_name(source)} is {codec} of {found[1]}x{found[0]} ({pixels})"
    if limits is None:
        raise VideoError(
            f"{what}; a GPU's video engine takes {', '.join(NVDEC)}. Use backend='pyav'."
        )
    fits = all(
        low <= n <= high for low, n, high in zip(limits.least, found, limits.most, strict=True)
    )
    if not fits or pixels not in limits.formats:
        raise VideoError(
            f"{what}; a GPU's video engine takes {codec} from {limits.least[1]}x{limits.least[0]} "
            f"to {limits.most[1]}x{limits.most[0]} pixels in {limits.formats[0]}. Use "
            "backend='pyav'."
        )


def _device_id() -> int | None:
    """The CUDA device of this process, or ``None``: DALI then decodes on the CPU."""
    from nemo_cosmos.platform.device import default_device

    device = default_device()
    return device.index if device.type == "cuda" else None


def _rgb_to_yuv(kr: float, kb: float) -> NDArray[np.float32]:
    """Full-range RGB to Y, Cb, Cr (ITU-R BT.601 and BT.709 differ in the luma weights alone)."""
    kg = 1 - kr - kb
    return np.array(
        [
            [kr, kg, kb],
            [-kr / (2 - 2 * kb), -kg / (2 - 2 * kb), 0.5],
            [0.5, -kg / (2 - 2 * kr), -kb / (2 - 2 * kr)],
        ],
        dtype=np.float32,
    )


def _rgb_601_to(kr: float, kb: float) -> NDArray[np.float32]:
    """Matrix from RGB that was converted with BT.601 to RGB of the matrix with these weights."""
    there = np.linalg.inv(_rgb_to_yuv(kr, kb)) @ _rgb_to_yuv(*_KR_KB_601)
    return there.astype(np.float32)
