"""What passes through the stages: a clip, or the reason why there is none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from nemo_cosmos.storage import StoredObject
from nemo_cosmos.video import VideoInfo


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A source video, then a span of it, then a finished clip.

    Attributes:
        source: the file on this machine; for a source in a bucket, the place that *probe* copies
            it to.
        name: the source's path below the input folder, with forward slashes. Clip ids and records
            use it, so that they do not depend on where the folder lies.
        arrays: the array sidecars beside the source, by name; see :mod:`data_curation.sidecars`.
        stored: the objects to copy for a source in a bucket: the video and its sidecars.
        info: the result of :func:`nemo_cosmos.video.index.probe`. Set by *probe*.
        start_frame: first frame of the span. Set by *split*, as are the next three.
        end_frame: frame after the last one of the span.
        span_s: the span in seconds of the source.
        clip_id: UUID of source and span; empty for a whole source.
        stored_size: ``(height, width)`` of its frames as stored, where that is not the size of the
            source's first frame; else ``(0, 0)``.
        fps: frames per second of the finished clip. Set by *transcode*, as are the next five.
        num_frames: length of the finished clip.
        width: width of the finished clip, in pixels.
        height: height of the finished clip, in pixels.
        suffixes: the finished clip's files in the store (``mp4``, ``action.npy``, ...).
        content_sha256: checksum of the decoded frames.
        caption: words that describe the clip. Set by *words* or *caption*.
        caption_source: the caption's author: ``sidecar``, ``template``, or a model's name.
        scores: results of filters by name.
        extra: further facts for the record, such as those of a sidecar JSON.
    """

    source: Path
    name: str
    arrays: tuple[Path, ...] = ()
    stored: tuple[StoredObject, ...] = ()
    info: VideoInfo | None = None
    start_frame: int = 0
    end_frame: int = 0
    span_s: tuple[float, float] = (0.0, 0.0)
    clip_id: str = ""
    stored_size: tuple[int, int] = (0, 0)
    fps: float = 0.0
    num_frames: int = 0
    width: int = 0
    height: int = 0
    suffixes: tuple[str, ...] = ()
    content_sha256: str = ""
    caption: str = ""
    caption_source: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether the span is the whole source, in the size in which that begins."""
        return self.info is not None and (self.start_frame, self.end_frame) == (
            0,
            self.info.num_frames,
        )

    @property
    def length_s(self) -> float:
        """Length of the span, or of a source before *split*; 0 before *probe*."""
        start_s, end_s = self.span_s
        return end_s - start_s or (self.info.declared_s if self.info is not None else 0.0)

    def with_scores(self, **scores: float) -> Self:
        """A copy with more scores."""
        return replace(self, scores={**self.scores, **scores})

    def to_json(self) -> dict[str, object]:
        """The fields that the journal keeps: all but the places of files and the probe's result."""
        kept = {item.name for item in fields(self)} - {"source", "arrays", "stored", "info"}
        return {name: _plain(getattr(self, name)) for name in sorted(kept)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], source: Path) -> Self:
        """Read what :meth:`to_json` wrote."""
        values = dict(content)
        values["span_s"] = tuple(values["span_s"])
        values["suffixes"] = tuple(values["suffixes"])
        values["stored_size"] = tuple(values.get("stored_size", (0, 0)))
        return cls(source=source, **values)


@dataclass(frozen=True)
class Rejection:
    """Why a source or a span of it does not become a sample.

    Attributes:
        name: the source, as in :attr:`Clip.name`.
        stage: name of the stage that rejected it.
        reason: a short word that is counted, such as ``too_short``.
        detail: one sentence with the values.
        span_s: the span in seconds, that of the whole source included; ``(0, 0)`` for a source of
            unknown length.
        clip_id: UUID of the span, empty for a whole source; names its thumbnail.
    """

    name: str
    stage: str
    reason: str
    detail: str
    span_s: tuple[float, float] = (0.0, 0.0)
    clip_id: str = ""

    @classmethod
    def of(cls, clip: Clip, stage: str, reason: str, detail: str) -> Self:
        """Reject this clip; the detail names files by their path below the input folder."""
        folder = clip.name.removesuffix(clip.source.name)
        detail = detail.replace(f"{clip.source.parent}{os.sep}", folder)
        span_s = clip.span_s if clip.clip_id or any(clip.span_s) else (0.0, clip.length_s)
        return cls(clip.name, stage, reason, detail, span_s, clip.clip_id)

    def to_json(self) -> dict[str, object]:
        """The fields as a JSON object."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote."""
        return cls(**{**content, "span_s": tuple(content["span_s"])})


#: What a stage makes of a clip.
Result = Clip | Rejection


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage occupies, for executors that schedule.

    Attributes:
        cpus: cores.
        gpus: share of a GPU that the stage uses where there is one; it also works without.
        memory_gb: memory in GiB.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float = 1.0

    def with_gpu(self) -> Resources:
        """The same needs and a quarter of a GPU, for a stage that uses it only now and then."""
        return Resources(self.cpus, 0.25, self.memory_gb)


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
