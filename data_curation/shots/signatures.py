"""What every frame of a video looks like, in about a thousand bytes, from one pass of decoding.

Shots are distinguished on tiny pictures, so everything that a full decode spends on detail is
skipped:
H.264's deblocking filter is off, no picture is converted to RGB, and the planes are sampled as the
decoder left them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from data_curation.shots.survey import QUICK_DECODER, Survey, Surveyor
from nemo_cosmos.errors import VideoError
from nemo_cosmos.video import FrameIndex, Source
from nemo_cosmos.video.source import open_video, source_name

if TYPE_CHECKING:
    import av

#: (height, width) of the tiny picture. Each of its cells is the mean of 4 x 4 samples in luma.
PICTURE_SIZE = (9, 16)
_SAMPLES = (72, 128)
_LUMA_BINS, _COLOUR_BINS = 32, 8
#: A cell that is darker than this through a whole video is a bar, 0 to 1 (black is 16 of 255).
_BAR_LUMA = 0.09
NUM_BINS = _LUMA_BINS + _COLOUR_BINS**2
#: Formats whose planes are 8-bit Y, U and V and can be used as they are.
_PLANAR = frozenset(
    f"yuv{full_range}{sampling}p" for full_range in ("", "j") for sampling in ("420", "422", "444")
)


@dataclass(frozen=True)
class Signatures:
    """All frames of a video in the order shown.

    Attributes:
        histogram_TB: ``(T, 96)`` float32: 32 bins of luma and 8 x 8 of colour, each part sums to 1.
        picture_T3HW: ``(T, 3, 9, 16)`` float32: Y, U and V from 0 to 1.
        contrast_T: ``(T,)`` float32 standard deviation of luma, 0 to 0.5.
    """

    histogram_TB: NDArray[np.float32]
    picture_T3HW: NDArray[np.float32]
    contrast_T: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.contrast_T)

    @cached_property
    def inside_HW(self) -> NDArray[np.bool_]:
        """Cells of the tiny picture that hold the film: not the bars around it, nor their edges."""
        film_HW = self.picture_T3HW[:, 0].max(axis=0) > _BAR_LUMA
        inside_HW = np.zeros_like(film_HW)
        inside_HW[_inner(film_HW.any(axis=1)), _inner(film_HW.any(axis=0))] = True
        return inside_HW if inside_HW.any() else np.ones_like(inside_HW)

    @cached_property
    def inner_contrast_T(self) -> NDArray[np.float32]:
        """Contrast of the tiny picture inside the bars."""
        return np.asarray(self.picture_T3HW[:, 0][:, self.inside_HW].std(axis=1))

    @cached_property
    def light_T(self) -> NDArray[np.bool_]:
        """Whether a frame is clearly lighter than bars, which then add contrast to it."""
        inner_TN = self.picture_T3HW[:, 0][:, self.inside_HW]
        return np.asarray(inner_TN.mean(axis=1) > 2 * _BAR_LUMA)

    def at(self, rows: NDArray[np.int64]) -> Signatures:
        """Those of other frames, by their places in these."""
        return Signatures(self.histogram_TB[rows], self.picture_T3HW[rows], self.contrast_T[rows])

    @classmethod
    def of(cls, frames_THWC: NDArray[np.uint8]) -> Signatures:
        """Signatures of RGB frames in memory."""
        collector = _Collector()
        for frame_HWC in frames_THWC:
            y, u, v = cv2.split(cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2YUV))
            collector.add(y, u, v)
        return collector.result()


def read_signatures(source: Source, num_frames: int | None = None) -> Signatures:
    """Decode a whole video to signatures.

    Args:
        source: the file.
        num_frames: number of frames that it should contain.

    Raises:
        MissingFileError: nothing readable is there.
        VideoError: it is not a video, is damaged, or holds another number of frames.
    """
    collector = _Collector()
    with open_video(source) as (container, stream):
        stream.codec_context.options = QUICK_DECODER
        for frame in container.decode(stream):
            collector.add(*_planes(frame))
    signatures = collector.result()
    if num_frames is not None and len(signatures) != num_frames:
        raise VideoError(
            f"{source_name(source)} gave {len(signatures)} frames, expected {num_frames}: it is "
            "damaged inside. Fetch it again, or cut the damaged part out."
        )
    return signatures


def survey_signatures(source: Source, index: FrameIndex) -> tuple[Signatures, Survey]:
    """Signatures of all frames of a source, and which of them can be used.

    A frame that is missing has the signature of the one before it, or of the first one.

    Raises:
        MissingFileError, VideoError: it is gone, or no video.
    """
    collector, surveyor = _Collector(), Surveyor(source, index)
    found = []
    for number, frame in surveyor:
        collector.add(*_planes(frame))
        found.append(number)
    rows = np.searchsorted(np.sort(found), np.arange(index.info.num_frames), side="right") - 1
    order = np.argsort(found, kind="stable")
    return collector.result().at(order[np.maximum(rows, 0)]), surveyor.result()


def _planes(frame: av.VideoFrame) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Y, U and V of a decoded frame, without a copy where its format allows it."""
    if frame.format.name not in _PLANAR:
        frame = frame.reformat(format="yuv420p")
    y, u, v = (_plane(plane) for plane in frame.planes[:3])
    return y, u, v


def _inner(holds_film: NDArray[np.bool_]) -> slice:
    """Rows or columns from the first to the last with film, without the cells next to bars."""
    places = np.flatnonzero(holds_film)
    if len(places) == 0:
        return slice(0, 0)
    first, last = int(places[0]), int(places[-1])
    return slice(first + (first > 0), last + (last == len(holds_film) - 1))


def _plane(plane: av.video.plane.VideoPlane) -> NDArray[np.uint8]:
    rows = np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


class _Collector:
    """Gathers signatures frame by frame."""

    def __init__(self) -> None:
        self._histograms: list[NDArray[np.float32]] = []
        self._pictures: list[NDArray[np.uint8]] = []
        self._contrasts: list[float] = []

    def add(self, y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8]) -> None:
        """Take the planes of the next frame; u and v may be smaller than y."""
        luma = _sample(y, _SAMPLES)
        colours = [_sample(plane, (_SAMPLES[0] // 2, _SAMPLES[1] // 2)) for plane in (u, v)]
        self._histograms.append(_histogram(luma, colours))
        height, width = PICTURE_SIZE
        small = [
            cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA)
            for plane in (luma, *colours)
        ]
        self._pictures.append(np.stack(small))
        self._contrasts.append(float(cv2.meanStdDev(luma)[1][0, 0]))

    def result(self) -> Signatures:
        """What was gathered."""
        count = len(self._contrasts)
        pictures = np.array(self._pictures, dtype=np.float32).reshape(count, 3, *PICTURE_SIZE)
        histograms = np.array(self._histograms, dtype=np.float32).reshape(count, NUM_BINS)
        contrasts = np.array(self._contrasts, dtype=np.float32)
        scale = np.float32(255)
        return Signatures(histograms, pictures / scale, contrasts / scale)


def _sample(plane_HW: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    sampled = cv2.resize(plane_HW, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(sampled, dtype=np.uint8)


def _histogram(luma: NDArray[np.uint8], colours: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    counts = cv2.calcHist([luma], [0], None, [_LUMA_BINS], [0, 256]).ravel() / luma.size
    # Smoothing keeps a slight change of light from moving everything into the next bin.
    smooth = np.convolve(counts, (0.25, 0.5, 0.25), mode="same")
    # Most colours are near grey: bins of 16 levels around it, the rest into the outer ones.
    near = [np.clip(plane, 64, 191) for plane in colours]
    bins = [_COLOUR_BINS, _COLOUR_BINS]
    colour = cv2.calcHist(near, [0, 1], None, bins, [64, 192, 64, 192]).ravel() / colours[0].size
    return np.concatenate([smooth, colour]).astype(np.float32)
