"""Shard: write the remaining clips into cosmos-curate's layout, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from data_curation.clip import Clip
from data_curation.store import ClipStore
from nemo_cosmos.data.sample import sha256_of
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.layout import MAX_SHARD_BYTES
from nemo_cosmos.data.shards.writer import CuratedWriter
from nemo_cosmos.storage import atomic_path


def write_shards(
    clips: Sequence[Clip],
    store: ClipStore,
    output: Path,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    advance: Callable[[], None] = lambda: None,
) -> bool:
    """Write ``output/v0`` from these clips, in their order.

    The folder is replaced at once when it is complete; before that the earlier one stays. When it
    holds these very clips already, nothing is written.

    Args:
        clips: the clips that passed all stages, captioned.
        store: the store of their files.
        output: the run's output folder.
        max_shard_bytes: size of a tar.
        advance: callback after each clip.

    Returns:
        Whether anything was written.

    Raises:
        StorageFullError: no space left; the earlier shards are intact.
    """
    marker = output / ".work" / "shards.json"
    wanted = {"fingerprint": _fingerprint(clips, max_shard_bytes)}
    is_written = marker.exists() and json.loads(marker.read_text(encoding="utf-8")) == wanted
    if is_written and store.in_shards(clip.clip_id for clip in clips):
        return False
    draft = output / ".work" / "dataset"
    shutil.rmtree(draft, ignore_errors=True)
    with CuratedWriter(draft, max_bytes=max_shard_bytes) as writer:
        for clip in clips:
            files = {suffix: store.get(clip.clip_id, suffix) for suffix in clip.suffixes}
            writer.add(record_of(clip, sha256_of(files["mp4"])), files)
            advance()
    with atomic_path(output / "v0") as temporary:
        (draft / "v0").rename(temporary)
    with atomic_path(marker) as temporary:
        temporary.write_text(json.dumps(wanted), encoding="utf-8")
    shutil.rmtree(draft, ignore_errors=True)
    return True


def record_of(clip: Clip, sha256: str) -> ClipRecord:
    """What the sample's JSON says of a clip."""
    return ClipRecord(
        key=clip.clip_id,
        source=clip.name,
        span_s=clip.span_s,
        fps=clip.fps,
        num_frames=clip.num_frames,
        width=clip.width,
        height=clip.height,
        caption=clip.caption,
        caption_source=clip.caption_source,
        scores=clip.scores,
        sha256=sha256,
        extra={**clip.extra, "content_sha256": clip.content_sha256},
    )


def _fingerprint(clips: Sequence[Clip], max_shard_bytes: int) -> str:
    content = json.dumps([max_shard_bytes, *(clip.to_json() for clip in clips)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
