"""Split: cut a source into clips by shot, by a fixed stride, or not at all.

A clip is a piece of one shot. The frames of a transition (fade, dissolve, wipe) belong to no clip,
nor do some frames on either side of it; the run's summary counts them as left out. Nothing is left
out where the source itself begins or ends, or where a long shot is cut into parts.
"""

from __future__ import annotations

import itertools
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.frames import index_source
from data_curation.shots import detect, pyscenedetect
from data_curation.shots.transition import Transition, shot_spans
from data_curation.stages.base import ClipStage, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.options import option
from nemo_cosmos.platform.dependencies import require
from nemo_cosmos.video import decode

#: Frames of rejected pieces that are decoded at once.
_PICTURES_PER_CALL = 16
SplitMethod = Literal["shot", "transnetv2", "scenedetect", "stride", "none"]


@dataclass(frozen=True)
class SplitSettings(StageSettings):
    """How sources are cut.

    Attributes:
        method: ``shot`` (our detector), ``transnetv2``, ``scenedetect`` (PySceneDetect's adaptive
            detector), ``stride`` (pieces of ``stride_s``) or ``none`` (whole sources).
        min_clip_s: shorter pieces are rejected as ``too_short``.
        max_clip_s: longer pieces are cut into equal parts.
        stride_s: length of a piece with the method ``stride``.
        boundary_s: seconds left out on either side of a change of shot; at least one frame unless
            it is 0.

    Raises:
        ConfigError: a length is not positive, or the least is more than the most.
    """

    method: SplitMethod = option(
        "shot",
        "Where to cut: 'shot', 'transnetv2', 'scenedetect', 'stride' or 'none' (whole videos).",
        flag="--split",
    )
    min_clip_s: float = option(2.0, "Shorter clips are rejected.", flag="--min-clip-s")
    max_clip_s: float = option(60.0, "Longer clips are cut evenly.", flag="--max-clip-s")
    stride_s: float = option(10.0, "Clip length with --split stride.", flag="--stride-s")
    boundary_s: float = option(
        0.1, "What is left out on either side of a change of shot.", flag="--boundary-s"
    )

    def __post_init__(self) -> None:
        methods = get_args(SplitMethod)
        if self.method not in methods:
            raise ConfigError(
                f"There is no method '{self.method}' to split by; expected "
                f"{', '.join(methods[:-1])} or {methods[-1]}."
            )
        if not (0 <= self.min_clip_s <= self.max_clip_s and self.max_clip_s > 0):
            raise ConfigError(
                f"Clips cannot be {self.min_clip_s} s to {self.max_clip_s} s long; expected a "
                "least length of 0 or more and a most length that is not below it."
            )
        if self.stride_s <= 0:
            raise ConfigError(f"The stride is {self.stride_s} s; expected a positive number.")
        if self.boundary_s < 0:
            raise ConfigError(f"The boundary is {self.boundary_s} s; expected 0 or more.")

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return SplitStage(self, store)


class SplitStage(ClipStage):
    """Cuts one source into clips; pieces that are too short are rejected one by one."""

    name = "split"
    inputs = ("info",)
    outputs = ("start_frame", "end_frame", "span_s", "clip_id")
    resources = Resources(cpus=1.0)
    version = 2

    def __init__(self, settings: SplitSettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store
        if settings.method == "transnetv2":
            self.resources = self.resources.with_gpu()

    def prepare(self) -> None:
        """Get the weights or the package that the method needs."""
        if self.settings.method == "transnetv2":
            from data_curation.shots.transnetv2 import load_transnetv2

            load_transnetv2()
        elif self.settings.method == "scenedetect":
            require("scenedetect")

    def process(self, clip: Clip) -> list[Result]:
        """Cut one source."""
        results = [self._piece(clip, start, end) for start, end in self._spans(clip)]
        self._put_pictures(clip, [each for each in results if isinstance(each, Rejection)])
        return results

    def _spans(self, clip: Clip) -> list[tuple[int, int]]:
        """Spans in frames, end exclusive, in order of time."""
        assert clip.info is not None
        settings, num_frames, fps = self.settings, clip.info.num_frames, clip.info.fps
        if settings.method == "stride":
            step = max(1, round(settings.stride_s * fps))
            spans = list(itertools.pairwise([*range(0, num_frames, step), num_frames]))
        elif settings.method == "none":
            spans = [(0, num_frames)]
        else:
            margin = math.ceil(settings.boundary_s * fps - 1e-6)
            spans = shot_spans(
                find_shots(clip.source, num_frames, settings.method), num_frames, margin
            )
        longest = max(1, math.floor(settings.max_clip_s * fps + 1e-6))
        return [part for start, end in spans for part in even_parts(start, end, longest)]

    def _piece(self, clip: Clip, start: int, end: int) -> Result:
        assert clip.info is not None
        fps = clip.info.fps
        span_s = (start / fps, end / fps)
        piece = replace(clip, start_frame=start, end_frame=end, span_s=span_s)
        piece = replace(piece, clip_id=clip_id(clip.name, *span_s))
        # Half a frame of tolerance: 2 s of 23.976 fps video are 47 or 48 frames.
        if end - start + 0.5 < self.settings.min_clip_s * fps:
            detail = (
                f"{span_s[1] - span_s[0]:.2f} s, at least {self.settings.min_clip_s:g} s wanted"
            )
            return Rejection.of(piece, self.name, "too_short", detail)
        return piece

    def _put_pictures(self, clip: Clip, pieces: Sequence[Rejection]) -> None:
        """Keep the middle frame of each rejected piece for the report."""
        assert clip.info is not None
        fps, index = clip.info.fps, index_source(clip.source)
        # Some at a time: they are full frames, and one pass over the source serves them all.
        for start in range(0, len(pieces), _PICTURES_PER_CALL):
            some = pieces[start : start + _PICTURES_PER_CALL]
            middles = [(round(a * fps) + round(b * fps)) // 2 for a, b in (p.span_s for p in some)]
            frames_THWC = decode(clip.source, frame_indices=middles, index=index).frames_THWC
            for piece, frame_HWC in zip(some, frames_THWC, strict=True):
                self._store.put_thumbnail(piece.clip_id, frame_HWC)


def clip_id(name: str, start_s: float, end_s: float) -> str:
    """Id of a clip as cosmos-curate makes it: UUID 5 of ``{path}_{start}_{end}``.

    The path is the one below the input folder, so that ids do not depend on where that lies.
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}_{start_s}_{end_s}"))


def find_shots(path: Path, num_frames: int, method: SplitMethod) -> list[Transition]:
    """Changes of shot in a video file of so many frames.

    Raises:
        VideoError: it cannot be decoded.
        AssetError, MissingDependencyError: what the method needs is unavailable.
    """
    if method == "transnetv2":
        # Needs torch, which takes seconds to import.
        from data_curation.shots import transnetv2

        return transnetv2.detect_shots(path)
    if method == "scenedetect":
        return pyscenedetect.detect_shots(path)
    return detect.detect_shots(path, num_frames)


def even_parts(start: int, end: int, longest: int) -> list[tuple[int, int]]:
    """Cut a span into the fewest parts of at most ``longest`` frames, all about equally long."""
    count = max(1, math.ceil((end - start) / longest))
    edges = [start + round(part * (end - start) / count) for part in range(count + 1)]
    return list(itertools.pairwise(edges))
