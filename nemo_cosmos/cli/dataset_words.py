"""What ``nemo-cosmos dataset show`` says of a version and of a clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any


def describe_version(dataset: Mapping[str, Any]) -> str:
    """A version: what is in it, where it lies, and the settings that are not the usual ones."""
    config = dataset["config"]
    reasons = sorted(config.get("rejected", {}).items(), key=lambda item: (-item[1], item[0]))
    rejected = ", ".join(f"{count} {name}" for name, count in reasons) or "nothing"
    lines = [
        f"{dataset['name']}@{dataset['version']}, made {dataset['created']}",
        f"  clips:    {dataset['num_clips']:,} ({dataset['duration_s']:,.1f} s)",
        f"  rejected: {rejected}",
        f"  sources:  {dataset['source'] or 'a list, a pattern or one file'}",
        f"  shards:   {_place(dataset)}",
    ]
    changed = list(_unusual(config.get("settings") or {}))
    return "\n".join([*lines, "  settings: " + (", ".join(changed) or "as they are by default")])


def describe_clip(clip: Mapping[str, Any]) -> str:
    """A clip: what is seen, where it came from, and which versions hold it."""
    video = clip["video"] or {}
    place = video.get("location") or clip["source"]
    deleted = f", deleted {video['deleted']}" if video.get("deleted") else ""
    start_s, end_s = clip["span_s"]
    lines = [
        clip["key"],
        f"  caption: {clip['caption']} ({clip['caption_source']})",
        f"  picture: {clip['width']}x{clip['height']}, {clip['num_frames']} frames at "
        f"{clip['fps']:g} a second",
        f"  source:  {place}, {start_s:.2f} s to {end_s:.2f} s{deleted}",
        *(f"  in:      {_name(each)}, {_place(each, each['shard'])}" for each in clip["datasets"]),
        *(f"  {name} = {value:.6g}" for name, value in sorted(clip["scores"].items())),
    ]
    return "\n".join(lines)


def _name(dataset: Mapping[str, Any]) -> str:
    return f"{dataset['name']}@{dataset['version']}"


def _place(dataset: Mapping[str, Any], shard: str = "v0") -> str:
    if dataset["deleted"]:
        return f"deleted {dataset['deleted']}"
    return f"{dataset['output'].rstrip('/')}/{shard}"


def _unusual(settings: Mapping[str, Any]) -> Iterator[str]:
    """Settings that differ from the defaults, as ``split.min_clip_s = 1.0``."""
    from data_curation.settings import CurateSettings

    usual = asdict(CurateSettings())
    for stage, values in settings.items():
        before = usual.get(stage)
        if not isinstance(values, Mapping):
            if _plain(values) != _plain(before):
                yield f"{stage} = {values}"
            continue
        for name, value in values.items():
            if not isinstance(before, Mapping) or _plain(value) != _plain(before.get(name)):
                yield f"{stage}.{name} = {value}"


def _plain(value: Any) -> Any:
    """JSON has no tuples."""
    return list(value) if isinstance(value, tuple) else value
