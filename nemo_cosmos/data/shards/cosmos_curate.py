"""Read the JSON that cosmos-curate writes beside a clip as if we had written it.

Its ``metas`` say ``span_uuid``, ``source_video``, ``duration_span``, the size and rate of the
source, ``motion_score``, ``aesthetic_score`` and ``windows`` with ``<model>_caption``. What has no
counterpart here is kept under its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ENHANCED, _CAPTION = "_enhanced_caption", "_caption"


def own_fields(data: Any) -> Any:
    """Return the fields of :class:`~nemo_cosmos.data.schema.ClipRecord` for cosmos-curate's.

    JSON of any other writer is returned unchanged. What is wrong or missing stays so, and the
    record refuses it with the name of the sample.
    """
    if not isinstance(data, Mapping) or "span_uuid" not in data or "key" in data:
        return data
    caption, writer = _caption_of(data)
    found = {
        "key": data["span_uuid"],
        "source": data.get("source_video"),
        "span_s": data.get("duration_span"),
        "fps": data.get("framerate", data.get("framerate_source")),
        "width": data.get("width", data.get("width_source")),
        "height": data.get("height", data.get("height_source")),
        "caption": caption,
        "caption_source": writer,
        "scores": _scores_of(data),
    }
    found["num_frames"] = data.get("num_frames", _num_frames(data, found["fps"]))
    translated = {"span_uuid", "source_video", "duration_span", "motion_score", "aesthetic_score"}
    rest = {name: value for name, value in data.items() if name not in translated}
    return {**rest, **found}


def _caption_of(data: Mapping[str, Any]) -> tuple[str | None, str]:
    """The captions of all windows in order, and the model that wrote the first of them."""
    captions, writer = [], "unknown"
    for window in data.get("windows") or ():
        names = [name for name in window if name.endswith(_CAPTION)]
        # An enhanced caption was rewritten from the model's own: it is the better one.
        names.sort(key=lambda name: (not name.endswith(_ENHANCED), name))
        if names and isinstance(window[names[0]], str):
            captions.append(window[names[0]].strip())
            if len(captions) == 1:
                writer = names[0].removesuffix(_ENHANCED).removesuffix(_CAPTION)
    return (" ".join(captions) or None), writer


def _scores_of(data: Mapping[str, Any]) -> dict[str, float]:
    motion = data.get("motion_score") or {}
    scores = {f"motion_{name}": value for name, value in motion.items()}
    if data.get("aesthetic_score") is not None:
        scores["aesthetic"] = data["aesthetic_score"]
    return scores


def _num_frames(data: Mapping[str, Any], fps: Any) -> int | None:
    """By the windows, which cover a clip, the last frame inclusive; without any, by the span."""
    windows = data.get("windows") or ()
    if windows:
        return max(int(window["end_frame"]) for window in windows) + 1
    span_s = data.get("duration_span")
    return round((span_s[1] - span_s[0]) * fps) if span_s and fps else None
