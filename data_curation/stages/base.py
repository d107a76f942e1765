"""What passes through the stages, and what a stage promises.

A stage takes a clip and gives back the clip with more known about it, or a rejection with a reason.
It declares which fields it reads and sets and what resources it needs; an executor elsewhere runs
it. A stage is idempotent: the same clip gives the same result, so that a run that was interrupted
goes on.

A stage is one file with its settings, whose fields are options of the command line, and one line in
:class:`data_curation.settings.CurateSettings`::

    @dataclass(frozen=True)
    class SharpnessSettings(StageSettings):
        min_sharpness: float = setting(0.1, "Least sharpness; 0 lets everything pass.")

        def build(self, store: ClipStore) -> Stage:
            return SharpnessStage(self, store)


    class SharpnessStage(Stage):
        name = "sharpness"
        inputs = ("suffixes",)
        outputs = ("scores",)

        def process(self, clip: Clip) -> Result: ...
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.storage import StoredObject
from nemo_cosmos.video import VideoInfo

if TYPE_CHECKING:
    from data_curation.store import ClipStore

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A source video, then a span of it, then a finished clip.

    Attributes:
        source: the file on this machine; of one in a bucket, where *probe* copies it to.
        name: its path below the input folder, with forward slashes. Clip ids and records use it,
            so that they do not depend on where the folder lies.
        arrays: the array sidecars beside the source, by name; see :mod:`data_curation.sidecars`.
        stored: of a source in a bucket, the objects that are copied: the video and its sidecars.
        info: what :func:`nemo_cosmos.video.probe` says of the source. Set by *probe*.
        start_frame: first frame of the span. Set by *split*, as are the next three.
        end_frame: frame after the last one of the span.
        span_s: the span in seconds of the source.
        clip_id: UUID of source and span; empty for a whole source.
        fps: of the finished clip. Set by *transcode*, as are the next four.
        num_frames: of the finished clip.
        width: of the finished clip, in pixels.
        height: of the finished clip, in pixels.
        suffixes: the finished clip's files in the store (``mp4``, ``action.npy``, ...).
        content_sha256: checksum of the decoded frames.
        caption: what is seen. Set by *caption*.
        caption_source: what wrote it: ``sidecar``, ``template``, or a model's name.
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
        """Whether the span is the whole source."""
        return self.info is not None and (self.start_frame, self.end_frame) == (
            0,
            self.info.num_frames,
        )

    @property
    def length_s(self) -> float:
        """Of the span, or of the source that is not split yet; 0 for one that is not probed."""
        start_s, end_s = self.span_s
        return end_s - start_s or (self.info.duration_s if self.info is not None else 0.0)

    def with_scores(self, **scores: float) -> Self:
        """A copy with more scores."""
        return replace(self, scores={**self.scores, **scores})

    def to_json(self) -> dict[str, Any]:
        """The fields that the journal keeps: all but the places of files and the probe's result."""
        kept = {item.name for item in fields(self)} - {"source", "arrays", "stored", "info"}
        return {name: _plain(getattr(self, name)) for name in sorted(kept)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], source: Path) -> Self:
        """What :meth:`to_json` wrote."""
        values = dict(content)
        values["span_s"] = tuple(values["span_s"])
        values["suffixes"] = tuple(values["suffixes"])
        return cls(source=source, **values)


@dataclass(frozen=True)
class Rejection:
    """Why a source or a span of it does not become a sample.

    Attributes:
        name: the source, as in :attr:`Clip.name`.
        stage: name of the stage that rejected it.
        reason: a short word that is counted, such as ``too_short``.
        detail: one sentence with the values.
        span_s: the span in seconds; ``(0, 0)`` for the whole source.
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
        """Reject this clip; files are named as below the input folder, wherever that lies."""
        folder = clip.name.removesuffix(clip.source.name)
        detail = detail.replace(f"{clip.source.parent}{os.sep}", folder)
        return cls(clip.name, stage, reason, detail, clip.span_s, clip.clip_id)

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` wrote."""
        return cls(**{**content, "span_s": tuple(content["span_s"])})


Result = Clip | Rejection


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage occupies, for executors that schedule.

    Attributes:
        cpus: cores.
        gpus: share of a GPU that it uses where there is one; it works without, too.
        memory_gb: memory in GiB.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float = 1.0

    def with_gpu(self) -> Resources:
        """The same of a stage that uses a GPU now and then: four of them share one."""
        return replace(self, gpus=0.25)


def nobody_counts() -> None:
    """What a stage tells of its progress where nobody asks."""


class Stage(ABC):
    """One step of the road from raw video to shards.

    It is built where the run starts and sent to its workers by pickle: models and connections are
    opened when they are first needed, and not in the constructor.

    Attributes:
        name: short name for counts, metrics and reports.
        inputs: fields of :class:`Clip` that must be set before.
        outputs: fields that it sets.
        scope: ``"clip"`` stages look at one clip alone (:meth:`process`) and may run anywhere in
            any order; ``"batch"`` stages look at some clips of one source at once
            (:meth:`process_batch`), so that what comes out does not depend on which sources happen
            to be worked on together; ``"dataset"`` stages see all clips, in order of source and
            span (:meth:`process_all`).
        batch_size: most clips in one call of a ``"batch"`` stage.
        resources: what one worker occupies.
        version: counts up when the stage makes something else of the same clip and settings, so
            that results of an earlier version are not used.
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = ()
    scope: ClassVar[Literal["clip", "batch", "dataset"]] = "clip"
    batch_size: int = 16
    resources: Resources = Resources()
    version: ClassVar[int] = 1

    def prepare(self) -> None:  # noqa: B027  most stages need nothing
        """Get what the stage needs (weights, a server's answer), before the first clip.

        Raises:
            NemoCosmosError: it cannot be had; the run ends before any work is done.
        """

    @abstractmethod
    def process(self, clip: Clip) -> Result | list[Result]:
        """Return the clip with more known about it, or a rejection; a list only when it splits.

        Raises:
            InputError: the clip is at fault; it is counted as rejected with the error as reason.
        """

    def process_batch(self, clips: Sequence[Clip]) -> list[Result]:
        """What a ``"batch"`` stage makes of some clips: one result for each, in their order.

        When it raises, the clips are tried one by one, so that a bad one costs no other.
        """
        return self.process_all(clips)

    def process_all(
        self, clips: Sequence[Clip], advance: Callable[[], None] = nobody_counts
    ) -> list[Result]:
        """What a ``"dataset"`` stage makes of all clips: one result for each, in their order.

        Args:
            clips: all of them.
            advance: called whenever a clip is done, where that can be said.
        """
        results: list[Result] = []
        for clip in clips:
            out = self.process(clip)
            results += out if isinstance(out, list) else [out]
            advance()
        return results


class StageSettings(ABC):
    """Everything that decides what one stage makes; its subclasses are frozen dataclasses.

    Attributes:
        optional: whether a run may leave the stage out (``CurateSettings.skip``).
    """

    optional: ClassVar[bool] = False

    @abstractmethod
    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings; ``store`` holds the files of clips."""


def setting(default: T, help: str, *, flag: str = "") -> T:
    """A field of a :class:`StageSettings` that is an option of the command line.

    Args:
        default: its value when the option is not given.
        help: its line in ``--help``.
        flag: its name there; by default ``--{stage}-{field}``.
    """
    return field(default=default, metadata={"help": help, "flag": flag})


def check_order(stages: Sequence[Stage]) -> None:
    """Refuse stages of which one reads a field that no stage before it sets.

    Raises:
        ConfigError: names the stage and the field.
    """
    known = {"source", "name"}
    for stage in stages:
        missing = [name for name in stage.inputs if name not in known]
        if missing:
            raise ConfigError(
                f"The stage '{stage.name}' reads '{missing[0]}', which no stage before it sets "
                f"(known are: {', '.join(sorted(known))}). Put the stage that sets it before."
            )
        known |= set(stage.outputs)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
