"""Split: cut a source into clips by shot, by a fixed stride, or not at all.

A shot ends where neighbouring frames differ much more than the frames around them do. The
difference of two frames is the L1 distance of their luma and colour histograms, plus the mean
difference of their coarse luma pictures. It is compared with the differences around it, so that a
fast pan, a shaking camera or a fade, which differ everywhere, are not cut, and a cut between two
dark scenes is.
"""

from __future__ import annotations

import itertools
import math
import uuid
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from data_curation.stages.base import (
    Clip,
    Rejection,
    Resources,
    Result,
    Stage,
    StageSettings,
    setting,
)
from data_curation.store import ClipStore
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.video import decode

SplitMethod = Literal["shot", "stride", "none"]

#: Size, (height, width), at which shots are looked for.
DETECTION_SIZE = (36, 64)
#: A cut differs at least this much (0: equal pictures, 3: nothing in common) and at least so many
#: times as much as any of the frames around it; or less, when it stands out more.
CUT_RULES = ((0.35, 2.0), (0.15, 8.0))
#: Frames on either side that a cut is compared with; shots that are shorter are not told apart.
NEIGHBOURS = 6


@dataclass(frozen=True)
class SplitSettings(StageSettings):
    """How sources are cut.

    Attributes:
        method: ``shot``, ``stride`` (pieces of ``stride_s``) or ``none`` (whole sources).
        min_clip_s: shorter pieces are rejected as ``too_short``.
        max_clip_s: longer pieces are cut into equal parts.
        stride_s: length of a piece with the method ``stride``.

    Raises:
        ConfigError: a length is not positive, or the least is more than the most.
    """

    method: SplitMethod = setting(
        "shot", "Where to cut: 'shot', 'stride' or 'none' (whole videos).", flag="--split"
    )
    min_clip_s: float = setting(2.0, "Shorter clips are rejected.", flag="--min-clip-s")
    max_clip_s: float = setting(60.0, "Longer clips are cut evenly.", flag="--max-clip-s")
    stride_s: float = setting(10.0, "Clip length with --split stride.", flag="--stride-s")

    def __post_init__(self) -> None:
        if self.method not in ("shot", "stride", "none"):
            raise ConfigError(
                f"There is no way '{self.method}' to split; expected shot, stride or none."
            )
        if not (0 <= self.min_clip_s <= self.max_clip_s and self.max_clip_s > 0):
            raise ConfigError(
                f"Clips of {self.min_clip_s} s to {self.max_clip_s} s cannot be; expected a "
                "least length of 0 or more and a most length that is not below it."
            )
        if self.stride_s <= 0:
            raise ConfigError(f"The stride is {self.stride_s} s; expected a positive number.")

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return SplitStage(self, store)


class SplitStage(Stage):
    """Cuts one source into clips; pieces that are too short are rejected one by one."""

    name = "split"
    inputs = ("info",)
    outputs = ("start_frame", "end_frame", "span_s", "clip_id")
    resources = Resources(cpus=1.0)

    def __init__(self, settings: SplitSettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store

    def process(self, clip: Clip) -> list[Result]:
        """Cut one source."""
        assert clip.info is not None
        spans = self._spans(clip)
        return [self._piece(clip, start, end) for start, end in spans]

    def _spans(self, clip: Clip) -> list[tuple[int, int]]:
        """Spans in frames, end exclusive, that cover the source without gap."""
        assert clip.info is not None
        settings, num_frames, fps = self.settings, clip.info.num_frames, clip.info.fps
        if settings.method == "stride":
            step = max(1, round(settings.stride_s * fps))
            edges = [*range(0, num_frames, step), num_frames]
        elif settings.method == "shot":
            frames_THWC = decode(clip.source, size=DETECTION_SIZE).frames_THWC
            edges = [0, *find_cuts(frames_THWC), num_frames]
        else:
            edges = [0, num_frames]
        longest = max(1, math.floor(settings.max_clip_s * fps + 1e-6))
        spans = itertools.pairwise(edges)
        return [part for start, end in spans for part in even_parts(start, end, longest)]

    def _piece(self, clip: Clip, start: int, end: int) -> Result:
        assert clip.info is not None
        fps = clip.info.fps
        span_s = (start / fps, end / fps)
        piece = replace(clip, start_frame=start, end_frame=end, span_s=span_s)
        piece = replace(piece, clip_id=clip_id(clip.name, *span_s))
        # Half a frame of tolerance: 2 s of 23.976 fps video are 47 or 48 frames.
        if end - start + 0.5 < self.settings.min_clip_s * fps:
            self._store.put_thumbnail(piece.clip_id, _middle_frame(piece))
            detail = (
                f"{span_s[1] - span_s[0]:.2f} s, at least {self.settings.min_clip_s:g} s wanted"
            )
            return Rejection.of(piece, self.name, "too_short", detail)
        return piece


def clip_id(name: str, start_s: float, end_s: float) -> str:
    """Id of a clip as cosmos-curate makes it: UUID 5 of ``{path}_{start}_{end}``.

    The path is the one below the input folder, so that ids do not depend on where that lies.
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}_{start_s}_{end_s}"))


def find_cuts(frames_THWC: np.ndarray) -> list[int]:
    """Numbers of the frames that begin a new shot; frame 0 is not among them.

    Args:
        frames_THWC: small RGB frames, uint8.
    """
    difference_T = frame_differences(frames_THWC)
    cuts = []
    for index, difference in enumerate(difference_T):
        before = difference_T[max(0, index - NEIGHBOURS) : index]
        after = difference_T[index + 1 : index + 1 + NEIGHBOURS]
        around = max(before.max(initial=0.0), after.max(initial=0.0))
        if any(difference >= least and difference >= ratio * around for least, ratio in CUT_RULES):
            cuts.append(index + 1)
    return cuts


def frame_differences(frames_THWC: np.ndarray) -> np.ndarray:
    """Difference of each frame to the next, ``(T-1,)``, from 0 to 3; see the module's docstring."""
    histograms, pictures = [], []
    for frame_HWC in frames_THWC:
        luma_colour = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2YCrCb)
        histograms.append(_histogram(luma_colour))
        pictures.append(cv2.resize(luma_colour[..., 0], (16, 9), interpolation=cv2.INTER_AREA))
    if len(histograms) < 2:
        return np.zeros(0)
    histogram_L1 = np.abs(np.diff(np.stack(histograms), axis=0)).sum(axis=1)
    picture_L1 = np.abs(np.diff(np.stack(pictures).astype(np.float32), axis=0)).mean(axis=(1, 2))
    return np.asarray(histogram_L1 + picture_L1 / 255.0)


def even_parts(start: int, end: int, longest: int) -> list[tuple[int, int]]:
    """Cut a span into the fewest parts of at most ``longest`` frames, all about equally long."""
    count = max(1, math.ceil((end - start) / longest))
    edges = [start + round(part * (end - start) / count) for part in range(count + 1)]
    return list(itertools.pairwise(edges))


def _histogram(luma_colour_HWC: np.ndarray) -> np.ndarray:
    """Smoothed luma (32 bins) and colour (8 x 8 bins) histogram; each half sums to 0.5."""
    luma = cv2.calcHist([luma_colour_HWC], [0], None, [32], [0, 256]).ravel()
    colour = cv2.calcHist([luma_colour_HWC], [1, 2], None, [8, 8], [64, 192, 64, 192]).ravel()
    # Smoothing keeps a slight change of light from moving everything into the next bin.
    luma = np.convolve(luma, (0.25, 0.5, 0.25), mode="same")
    return np.concatenate([luma / max(luma.sum(), 1), colour / max(colour.sum(), 1)]) / 2


def _middle_frame(clip: Clip) -> np.ndarray:
    middle = (clip.start_frame + clip.end_frame) // 2
    return decode(clip.source, frame_indices=[middle]).frames_THWC[0]
