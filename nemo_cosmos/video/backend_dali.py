"""Decode with NVIDIA DALI: NVDEC where there is a GPU, and H.264 on the CPU without a driver.

DALI 2.0 converts YUV to RGB on the CPU with the BT.601 matrix whatever the stream declares, so a
stream that is tagged BT.709 is corrected here. Colours that DALI has clipped to the RGB cube stay
clipped, by a few levels in fully saturated areas.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import VideoError
from nemo_cosmos.platform.dependencies import has, require
from nemo_cosmos.video.probe import FrameIndex
from nemo_cosmos.video.source import Source, read_bytes, source_name

BT709 = 1
FRAMES_PER_CALL = 32

# Luma weights of red and blue.
_KR_KB_601 = (0.299, 0.114)
_KR_KB_709 = (0.2126, 0.0722)
_DALI_LOCK = threading.Lock()


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
    """Yield the wanted frames as stored; see :func:`nemo_cosmos.video.backend_pyav.read_frames`.

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
    encoded = np.frombuffer(read_bytes(source), dtype=np.uint8)
    matrix = _rgb_601_to(*_KR_KB_709) if index.color_space == BT709 else None
    for start in range(0, len(wanted), FRAMES_PER_CALL):
        chunk = wanted[start : start + FRAMES_PER_CALL]
        frames_THWC = _decode(encoded, chunk.tolist(), source, device_id)
        if frames_THWC.shape[1:3] != index.stored_size or len(frames_THWC) != len(chunk):
            raise VideoError(
                f"DALI gave frames of shape {frames_THWC.shape} for {source_name(source)}, "
                f"expected {len(chunk)} of {index.stored_size}. Use backend='pyav'."
            )
        for frame_HWC in frames_THWC:
            yield frame_HWC if matrix is None else _apply(matrix, frame_HWC)


def _decode(
    encoded: NDArray[np.uint8], numbers: list[int], source: Source, device_id: int | None
) -> NDArray[np.uint8]:
    """Run one DALI pipeline for one file; ``(T, H, W, 3)``."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=1, num_threads=1, device_id=device_id, prefetch_queue_depth=1)  # type: ignore[untyped-decorator]
    def pipeline() -> object:
        data = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
        device = "cpu" if device_id is None else "mixed"
        return fn.decoders.video(data, device=device, frames=numbers)

    # DALI keeps the pipeline under construction in a global, so threads take turns.
    with _DALI_LOCK:
        try:
            built = pipeline()
            built.build()
            built.feed_input("encoded", [encoded])
            (output,) = built.run()
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise VideoError(
                f"DALI cannot decode {source_name(source)}: {reason} Use backend='pyav', which "
                "supports more formats."
            ) from error
        host = output if device_id is None else output.as_cpu()
        frames: NDArray[np.uint8] = np.array(host.as_array()[0])
    return frames


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


def _apply(matrix: NDArray[np.float32], frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    corrected = frame_HWC.astype(np.float32) @ matrix.T
    return np.clip(np.rint(corrected), 0, 255).astype(np.uint8)
