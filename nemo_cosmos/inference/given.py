"""The image or video that a generation continues: its frames at the model's rate.

A model learnt motion at one frame rate. Frames of a file are therefore chosen by presentation time,
at that rate, and only those are decoded. Arrays carry no times and are taken unchanged.

Shape suffixes: T frames, H height, W width, C colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls import CAMERA, Values, fit_camera
from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    SampleError,
    VideoError,
    WrongFrameCountError,
    counted,
)
from nemo_cosmos.provenance.belonging import is_same_rate
from nemo_cosmos.video import FrameIndex, Video, center_crop, decode, index_frames, is_image
from nemo_cosmos.video.resize import covering_size

FrameSource: TypeAlias = "np.ndarray | Video | str | PathLike[str]"
"""What can be continued: frames (uint8 RGB, T,H,W,3), a :class:`Video`, or the path of a file."""

MAX_FRAMES = 10**9
"""No video has as many: more than a year of them."""
SAME_ASPECT = 0.02
"""How far two aspects may be apart: what rounding to whole pixels makes of one."""


@dataclass(frozen=True)
class GivenFrames:
    """An image or video to continue.

    Attributes:
        pts_s: presentation time of each frame, in seconds from the first.
        fps: the source's own frame rate in Hz; None where it has none, as arrays and images.
        has_variable_rate: whether the frames are not evenly spaced.
        video: the frames, where they are in memory.
        path: the file, where they are not.
        index: the file's frames.
    """

    pts_s: NDArray[np.float64]
    fps: float | None
    has_variable_rate: bool = False
    video: Video | None = None
    path: str | PathLike[str] | None = None
    index: FrameIndex | None = None

    @classmethod
    def open(cls, source: FrameSource) -> GivenFrames:
        """Look at a source without decoding it.

        Raises:
            InputError: it is neither frames nor a path.
            MissingFileError: there is no such file.
            VideoError: it is not an image or video, or is interlaced beyond repair.
        """
        if isinstance(source, Video):
            pts_s = source.pts_s
            if pts_s is None:
                return cls(np.arange(source.num_frames) / source.fps, source.fps, video=source)
            return cls(pts_s - pts_s[0], source.fps, has_variable_rate=True, video=source)
        if isinstance(source, np.ndarray):
            if len(source) == 0:
                raise WrongFrameCountError(
                    "There is no frame to continue. Give an image or a video."
                )
            return cls(np.arange(len(source), dtype=float), None, video=Video(source, fps=1.0))
        if not isinstance(source, str | PathLike):
            raise InputError(
                f"The input is a {type(source).__name__}; expected frames (uint8 RGB, shape "
                "(T, H, W, 3)), a Video, or the path of an image or video."
            )
        if is_image(source):
            return cls(np.zeros(1), None, video=decode(source))
        index = index_frames(source, find_fields=True)
        info = index.info
        if info.scan == "unsure":
            raise VideoError(
                f"The frames of '{source}' are combed, as in interlaced video, but which field "
                "comes first cannot be told. Deinterlace it first, for example with 'ffmpeg -i IN "
                "-vf bwdif=deint=all OUT'."
            )
        return cls(index.pts_s, info.fps, info.variable_frame_rate, path=source, index=index)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the source in pixels."""
        if self.video is not None:
            return self.video.height, self.video.width
        assert self.index is not None
        return self.index.info.height, self.index.info.width

    def is_resampled(self, fps: float) -> bool:
        """Whether frames at this rate are not simply consecutive frames of the source."""
        if self.fps is None:
            return False
        return self.has_variable_rate or not is_same_rate(self.fps, fps)

    def num_frames(self, fps: float, begin: str | int) -> int:
        """Return how many frames can be given at a frame rate."""
        return len(self._numbers(fps, begin))

    def choose(self, num_frames: int, fps: float, begin: str | int) -> NDArray[np.int64]:
        """Return the numbers of the source's frames to continue.

        Args:
            num_frames: how many.
            fps: the rate of the video to make, in Hz.
            begin: ``"first"``, ``"last"``, or the number of the first frame at that rate.

        Raises:
            WrongFrameCountError: there are fewer.
        """
        numbers = self._numbers(fps, begin)
        if len(numbers) < num_frames:
            at_rate = f" at {fps:g} frames a second" if self.is_resampled(fps) else ""
            start = f" from frame {begin} on" if isinstance(begin, int) else ""
            raise WrongFrameCountError(
                f"The input has {counted(len(numbers), 'frame')}{at_rate}{start}, but "
                f"{num_frames} are to be "
                "continued. Give a longer input, or continue fewer frames."
            )
        return numbers[-num_frames:] if begin == "last" else numbers[:num_frames]

    def read(self, numbers: NDArray[np.int64], size_hw: tuple[int, int]) -> np.ndarray:
        """Decode frames, scaled and cropped.

        Args:
            numbers: their numbers, as :meth:`choose` returns them.
            size_hw: height and width of the video to make.

        Raises:
            VideoError: a frame is damaged.
        """
        if self.video is not None:
            frames_THWC = self.video.frames_THWC[numbers]
        else:
            assert self.path is not None and self.index is not None
            info = self.index.info
            # Scaled one by one while they are decoded: whole frames of a film fill the memory.
            frames_THWC = decode(
                self.path,
                frame_indices=numbers,
                size=covering_size(info.height, info.width, size_hw),
                index=self.index,
            ).frames_THWC
        return center_crop(frames_THWC, size_hw)

    def times_s(self, numbers: NDArray[np.int64]) -> list[float] | None:
        """Return when frames are shown, in seconds; None for a source without times."""
        return None if self.fps is None else [round(float(self.pts_s[n]), 6) for n in numbers]

    def _numbers(self, fps: float, begin: str | int) -> NDArray[np.int64]:
        """Numbers of the source's frames on a grid of the wanted rate."""
        first = begin if isinstance(begin, int) else 0
        if not self.is_resampled(fps):
            return np.arange(first, len(self.pts_s))
        last_s = float(self.pts_s[-1])
        count = int(last_s * fps + 1e-3) + 1
        if begin == "last":  # the grid ends at the last frame, which the new video continues
            times_s = last_s - np.arange(count)[::-1] / fps
        else:
            times_s = np.arange(first, count) / fps
        return _nearest(self.pts_s, times_s)


def fit_cameras(
    values: Mapping[str, Values], given: GivenFrames | None, size_hw: tuple[int, int]
) -> dict[str, Values]:
    """Scale and crop the camera among some signals as given frames are scaled and cropped.

    A camera's picture may be that of the input, which is cropped, or that of the video to make.

    Args:
        values: the arrays of each signal by its name.
        given: the frames to continue; None where a video begins without any.
        size_hw: height and width of the video to make.

    Raises:
        SampleError: the camera's picture has the aspect of neither.
    """
    if CAMERA.name not in values:
        return dict(values)
    camera = values[CAMERA.name]
    height, width = (float(side) for side in camera["size"])
    possible = {"the video": size_hw} | ({} if given is None else {"the input": given.size_hw})
    aspects = [size[1] / size[0] for size in possible.values()]
    if min(abs(width / height / aspect - 1) for aspect in aspects) > SAME_ASPECT:
        wanted = " or ".join(f"{size[0]}x{size[1]} of {name}" for name, size in possible.items())
        raise SampleError(
            f"The control 'camera' is of a picture of {height:g}x{width:g} (height x width), which "
            f"has another aspect than the {wanted}. Give 'size' and 'intrinsics' of one of them."
        )
    # Whole pixels: as large as frames of that size would be before they are cropped.
    outer = covering_size(round(height), round(width), size_hw)
    return {**values, CAMERA.name: fit_camera(camera, outer, size_hw)}


def parse_begin(begin: str | int | None) -> str | int | None:
    """Check where the given frames begin: ``first``, ``last``, or a frame's number.

    Raises:
        ConfigError: anything else.
    """
    if begin is None or (isinstance(begin, str) and begin in ("first", "last")):
        return begin
    try:
        number = int(str(begin))
    except ValueError:
        number = -1
    if isinstance(begin, bool) or not 0 <= number <= MAX_FRAMES:
        raise ConfigError(
            f"begin is {begin!r}; it must be 'first', 'last', or the number of the first frame to "
            f"give, from 0 to {MAX_FRAMES:,}."
        )
    return number


def _nearest(pts_s: NDArray[np.float64], times_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of the frame whose presentation time is nearest to each time."""
    after = np.clip(np.searchsorted(pts_s, times_s), 1, max(len(pts_s) - 1, 1))
    if len(pts_s) == 1:
        return np.zeros(len(times_s), dtype=np.int64)
    is_before_nearer = times_s - pts_s[after - 1] <= pts_s[after] - times_s
    numbers: NDArray[np.int64] = (after - is_before_nearer).astype(np.int64)
    return numbers
