"""The record of a clip: the JSON of a sample."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from nemo_cosmos.batch import DEFAULT_VIEWS, MAX_VIEWS, Views
from nemo_cosmos.controls import TimeAxes
from nemo_cosmos.data.shards.cosmos_curate import own_fields
from nemo_cosmos.errors import SampleError

MAX_NAME_LENGTH = 100  # characters of a plain tar header
MAX_KEY_LENGTH = 80  # "{key}.trajectory.npy" must fit
PADDING_BOX = "content_box"
"""Entry of a record with the box (top, left, bottom, right) that is picture, not padding."""

AUGMENTATION = "augmentation"
"""Entry of a record with what was done to a changed copy; others have none."""

TIME_AXES = "time_axes"
"""Entry of a record with the time axes of arrays that no signal declares, by suffix and name."""

VIEW_CHECKSUMS = "view_sha256"
"""Entry of a record with the checksums of the further views' videos by the view's name."""
RESERVED_VIEWS = frozenset({"layout", "mp4", "json"})
"""Names that stand in file names for something else: ``{key}.layout.mp4`` is no camera's video."""

_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """One clip, or one window of a clip.

    Attributes:
        key: name of the sample inside its shard: letters, digits, ``_`` and ``-``.
        source: the file or URL that the clip was cut from.
        span_s: start and end in the source, in seconds.
        fps: frames per second of the clip.
        num_frames: number of frames.
        width: width in pixels.
        height: height in pixels.
        caption: description of what is seen; never empty, because a text-conditioned model learns
            from it.
        caption_source: writer of the caption, for example ``template`` or a model's name.
        scores: results of filters, by name.
        sha256: checksum of the sample's mp4 (of the whole clip's, for a window).
        views: names of the synchronous cameras that show the clip, one to seven, in the order in
            which models take them. All share ``fps``, ``num_frames``, ``width`` and ``height``.
        extra: all other entries of the JSON, unchanged.

    Raises:
        SampleError: a value is missing or impossible; the message names the sample and the value.
    """

    key: str
    source: str
    span_s: tuple[float, float]
    fps: float
    num_frames: int
    width: int
    height: int
    caption: str
    caption_source: str = "unknown"
    scores: Mapping[str, float] = field(default_factory=dict)
    sha256: str = ""
    views: Views = DEFAULT_VIEWS
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key) or len(self.key) > MAX_KEY_LENGTH:
            raise SampleError(
                f"The key '{self.key}' cannot name a sample; expected 1 to {MAX_KEY_LENGTH} "
                "letters, digits, '_' or '-' (a dot or slash would split it from its files)."
            )
        if not self.caption.strip():
            raise SampleError(
                f"Sample '{self.key}' has no caption; expected a sentence that says what is seen. "
                "Run the captioning stage of 'nemo-cosmos curate' again, or write one into the "
                "sample's JSON as 'caption'."
            )
        for name in ("fps", "num_frames", "width", "height"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise SampleError(
                    f"Sample '{self.key}' has {name} {value}; expected a positive number. Probe "
                    "the clip again with nemo_cosmos.video.index.probe."
                )
        if (fault := find_views_fault(self.views)) is not None:
            raise SampleError(f"Sample '{self.key}' has the views {list(self.views)}, {fault}")
        longest = max(self.views[1:], key=len, default="")
        if longest and len(f"{self.key}.{longest}.layout.mp4") > MAX_NAME_LENGTH:
            raise SampleError(
                f"The key '{self.key}' and the view '{longest}' make file names of over "
                f"{MAX_NAME_LENGTH} characters, which a tar cannot hold. Shorten one of them."
            )
        start_s, end_s = self.span_s
        if not 0 <= start_s < end_s < math.inf:
            raise SampleError(
                f"Sample '{self.key}' spans {start_s} s to {end_s} s of its source; expected a "
                "start of at least 0 before a finite end."
            )

    @property
    def duration_s(self) -> float:
        """Length of the clip in seconds."""
        return self.num_frames / self.fps

    def time_axes(self, suffix: str) -> TimeAxes:
        """Return the time axes that were decided when a sidecar was first cut.

        Args:
            suffix: the sidecar's, such as ``lidar.npz``.

        Raises:
            SampleError: the record holds something else there.
        """
        recorded = self.extra.get(TIME_AXES) or {}
        axes = recorded.get(suffix, {}) if isinstance(recorded, Mapping) else None
        if not isinstance(axes, Mapping) or not set(axes.values()) <= {"frame", "step", None}:
            raise SampleError(
                f"Sample '{self.key}' has {TIME_AXES} {recorded!r}; expected 'frame', 'step' or "
                "null for each array of a file. Curate the clip again, or delete the entry."
            )
        return axes

    def with_changes(self, **changes: Any) -> Self:
        """Return a copy with other values; names that are not fields go into ``extra``."""
        known = {name: value for name, value in changes.items() if name in _FIELDS}
        extra = {name: value for name, value in changes.items() if name not in _FIELDS}
        return replace(self, **{"extra": {**self.extra, **extra}, **known})

    def to_json(self) -> bytes:
        """Serialise the record; the same record always gives the same bytes."""
        content = {name: getattr(self, name) for name in _FIELDS if name != "extra"}
        content |= {
            "span_s": list(self.span_s),
            "scores": dict(self.scores),
            "views": list(self.views),
            **{name: value for name, value in self.extra.items() if name not in _FIELDS},
        }
        if self.views == DEFAULT_VIEWS:  # a shard of one camera stays as it always was
            del content["views"]
        return json.dumps(content, ensure_ascii=False, sort_keys=True, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes | str, where: str = "a sample") -> Self:
        """Parse and check a record; the JSON of cosmos-curate is read, too.

        Args:
            content: JSON text of an object.
            where: shard and key, for messages.

        Raises:
            SampleError: it is not JSON, or a value is missing or of the wrong type.
        """
        try:
            data = json.loads(content)
        except ValueError as error:
            raise SampleError(
                f"The JSON of {where} cannot be parsed: {error}. The shard is damaged; write it "
                "again."
            ) from error
        data = own_fields(data)
        if not isinstance(data, dict):
            raise SampleError(
                f"The JSON of {where} is a {type(data).__name__}; expected an object with the "
                f"fields {', '.join(_REQUIRED)}."
            )
        absent = [name for name in _REQUIRED if data.get(name) is None]
        if absent:
            raise SampleError(
                f"The JSON of {where} has no {' and no '.join(repr(name) for name in absent)}; "
                f"expected {', '.join(_REQUIRED)}. Curate the clip again, or add what is missing."
            )
        try:
            return cls(
                key=_text(data, "key"),
                source=_text(data, "source"),
                span_s=(float(data["span_s"][0]), float(data["span_s"][1])),
                fps=float(data["fps"]),
                num_frames=int(data["num_frames"]),
                width=int(data["width"]),
                height=int(data["height"]),
                caption=_text(data, "caption"),
                caption_source=str(data.get("caption_source", "unknown")),
                scores=dict(data.get("scores") or {}),
                sha256=str(data.get("sha256", "")),
                views=views_of(data),
                extra={name: value for name, value in data.items() if name not in _FIELDS},
            )
        except (TypeError, ValueError, IndexError, KeyError) as error:
            if isinstance(error, SampleError):
                raise SampleError(f"In {where}: {error}") from error
            raise SampleError(
                f"The JSON of {where} holds a value of the wrong type: {error}. Expected texts for "
                "key, source and caption, numbers for fps, num_frames, width and height, and two "
                "numbers for span_s."
            ) from error


_FIELDS = tuple(item.name for item in fields(ClipRecord))
_REQUIRED = ("key", "source", "span_s", "fps", "num_frames", "width", "height", "caption")


def find_views_fault(views: Views) -> str | None:
    """Say what is wrong with the names of a sample's cameras; None where nothing is.

    Args:
        views: the names.
    """
    if not 1 <= len(views) <= MAX_VIEWS:
        return f"{len(views)} of them; expected 1 to {MAX_VIEWS}. Leave cameras out."
    if len(set(views)) < len(views):
        return "of which two are the same; expected each camera once."
    for view in views:
        if not _KEY.fullmatch(view) or view in RESERVED_VIEWS:
            return (
                f"and '{view}' cannot name a camera; expected letters, digits, '_' or '-', such as "
                f"'front_left', and none of {', '.join(sorted(RESERVED_VIEWS))}. Rename it."
            )
    return None


def views_of(data: Mapping[str, Any]) -> Views:
    """Return the views that a sample's JSON names; one of a single camera names none."""
    return tuple(str(view) for view in data.get("views") or DEFAULT_VIEWS)


def _text(data: Mapping[str, object], name: str) -> str:
    value = data[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, which is no text")
    return value
