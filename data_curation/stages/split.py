"""Split: cut a source into clips by shot, by a fixed stride, or not at all.

A clip is a piece of one shot. The frames of a transition (fade, dissolve, wipe) belong to no clip,
nor do some frames on either side of it; the run's summary counts them as left out. Nothing is left
out where the source itself begins or ends, or where a long shot is cut into parts.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.frames import index_source
from data_curation.shots import detect, pyscenedetect
from data_curation.shots.signatures import survey_signatures
from data_curation.shots.structure import without_same_scenes
from data_curation.shots.survey import Survey, small_frames, survey
from data_curation.shots.transition import Transition, shot_spans
from data_curation.stages.base import ClipStage, Stage, StageSettings
from data_curation.store import ClipStore
from data_curation.timeline import (
    MAX_HOLD_S,
    Loss,
    find_damage,
    find_holds,
    parts_by_time,
    strides,
    widened,
    without,
)
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.options import option
from nemo_cosmos.platform.dependencies import require
from nemo_cosmos.video import FrameIndex, VideoInfo, decode

#: Frames of rejected pieces that are decoded at once.
_PICTURES_PER_CALL = 16
#: A video that stays whole may stand still for longer.
WHOLE_HOLD_S = 3600.0
#: The longest clip that settings may ask for: no recording is longer.
MAX_CLIP_S = 1e9
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
        ConfigError: a value outside its range, or the least length is more than the most.
    """

    method: SplitMethod = option(
        "shot",
        "Where to cut: 'shot', 'transnetv2', 'scenedetect', 'stride' or 'none' (whole videos).",
        flag="--split",
    )
    min_clip_s: float = option(
        2.0, "Shorter clips are rejected.", flag="--min-clip-s", least=0, most=MAX_CLIP_S
    )
    max_clip_s: float = option(
        60.0, "Longer clips are cut evenly.", flag="--max-clip-s", above=0, most=MAX_CLIP_S
    )
    stride_s: float = option(
        10.0, "Clip length with --split stride.", flag="--stride-s", above=0, most=MAX_CLIP_S
    )
    boundary_s: float = option(
        0.1,
        "What is left out on either side of a change of shot.",
        flag="--boundary-s",
        least=0,
        most=3600,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_clip_s > self.max_clip_s:
            raise ConfigError(
                f"Clips cannot be {self.min_clip_s:g} s to {self.max_clip_s:g} s long; expected a "
                "most length that is not below the least."
            )

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return SplitStage(self, store)


class SplitStage(ClipStage):
    """Cuts one source into clips; pieces that are too short are rejected one by one."""

    name = "split"
    inputs = ("info",)
    outputs = ("start_frame", "end_frame", "span_s", "clip_id")
    resources = Resources(cpus=1.0)
    version = 5

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
        assert clip.info is not None
        index = index_source(clip.source)
        spans, losses, seen = self._spans(clip, index)
        results = [self._piece(clip, index, seen, *span) for span in spans]
        self._put_pictures(clip, index, seen, results, spans)
        lost: list[Result] = [self._lost(clip, index, loss) for loss in losses]
        if clip.info.lost_s:
            lost.append(self._truncated(clip, clip.info))
        return sorted(results + lost, key=lambda each: each.span_s)

    def _spans(
        self, clip: Clip, index: FrameIndex
    ) -> tuple[list[tuple[int, int]], list[Loss], Survey]:
        """Spans in frames, end exclusive, in order of time; and frames that can be in none."""
        settings, edges_s, num_frames = self.settings, index.edges_s, index.info.num_frames
        found, seen = self._shots(clip.source, index)
        if settings.method == "stride":
            spans = strides(edges_s, settings.stride_s)
        elif settings.method == "none":
            spans = [(0, num_frames)]
        else:
            spans = shot_spans(widened(found, edges_s, settings.boundary_s), num_frames)
        is_whole = settings.method == "none"
        losses = find_holds(edges_s, WHOLE_HOLD_S if is_whole else MAX_HOLD_S)
        damaged_T = seen.damaged_T.copy()
        damaged_T[[hold.start for hold in losses]] = False  # each second has one reason
        losses += find_damage(damaged_T, edges_s)
        cuts = [*([] if is_whole else index.joins), *seen.resized]
        spans = without(spans, losses, cuts)
        longest_s = settings.max_clip_s
        parts = [part for span in spans for part in parts_by_time(edges_s, *span, longest_s)]
        return parts, losses, seen

    def _shots(self, source: Path, index: FrameIndex) -> tuple[list[Transition], Survey]:
        """Changes of shot where they are asked for, and which frames can be used."""
        method = self.settings.method
        if method == "shot":  # one pass finds out both
            signatures, seen = survey_signatures(source, index)
            found = detect.find_transitions(signatures)
            return without_same_scenes(found, source, index), seen
        seen = survey(source, index)
        if method in ("stride", "none"):
            return [], seen
        return find_shots(source, index, method, seen), seen

    def _piece(self, clip: Clip, index: FrameIndex, seen: Survey, start: int, end: int) -> Result:
        span_s, size = index.span_s(start, end), seen.size_of(start)
        piece = replace(clip, start_frame=start, end_frame=end, span_s=span_s)
        piece = replace(piece, stored_size=(0, 0) if size == index.stored_size else size)
        piece = replace(piece, clip_id=clip_id(clip.name, *span_s))
        # Half a frame of tolerance: 2 s of 23.976 fps video are 47 or 48 frames.
        half_s = 0.5 / index.fps_of(start, end)
        if piece.length_s + half_s < self.settings.min_clip_s:
            detail = f"{piece.length_s:.2f} s, at least {self.settings.min_clip_s:g} s wanted"
            return Rejection.of(piece, self.name, "too_short", detail)
        return piece

    def _lost(self, clip: Clip, index: FrameIndex, loss: Loss) -> Rejection:
        piece = replace(clip, span_s=index.span_s(loss.start, loss.end))
        return Rejection.of(piece, self.name, loss.reason, loss.detail)

    def _truncated(self, clip: Clip, info: VideoInfo) -> Rejection:
        """The end of a file that is cut off."""
        whole_s = info.declared_s
        piece = replace(clip, span_s=(info.duration_s, whole_s))
        detail = f"the file is truncated: the last {info.lost_s:.2f} s of {whole_s:.2f} s are gone"
        return Rejection.of(piece, self.name, "damaged", detail)

    def _put_pictures(
        self,
        clip: Clip,
        index: FrameIndex,
        seen: Survey,
        results: Sequence[Result],
        spans: Sequence[tuple[int, int]],
    ) -> None:
        """Keep the middle frame of each rejected piece for the report."""
        pieces = [
            (each.clip_id, (start + end) // 2)
            for each, (start, end) in zip(results, spans, strict=True)
            if isinstance(each, Rejection) and seen.size_of(start) == index.stored_size
        ]
        # Some at a time: they are full frames, and one pass over the source serves them all.
        for first in range(0, len(pieces), _PICTURES_PER_CALL):
            ids, middles = zip(*pieces[first : first + _PICTURES_PER_CALL], strict=True)
            frames_THWC = decode(clip.source, frame_indices=middles, index=index).frames_THWC
            for piece_id, frame_HWC in zip(ids, frames_THWC, strict=True):
                self._store.put_thumbnail(piece_id, frame_HWC)


def clip_id(name: str, start_s: float, end_s: float) -> str:
    """Id of a clip as cosmos-curate makes it: UUID 5 of ``{path}_{start}_{end}``.

    The path is the one below the input folder, so that ids do not depend on where that lies.
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}_{start_s}_{end_s}"))


def find_shots(
    path: Path, index: FrameIndex, method: SplitMethod, seen: Survey
) -> list[Transition]:
    """Changes of shot in a video file, by a detector of others.

    Raises:
        VideoError: it cannot be decoded.
        AssetError, MissingDependencyError: what the method needs is unavailable.
    """
    if method == "transnetv2":
        # Needs torch, which takes seconds to import.
        from data_curation.shots import transnetv2

        frames_THWC = small_frames(path, index, seen, transnetv2.FRAME_SIZE)
        return transnetv2.transitions_of(frames_THWC)
    return pyscenedetect.detect_shots(path)
