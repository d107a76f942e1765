"""What the catalogue remembers, and how it is read from a curated folder.

========== ===================================================================================
VIDEO      a source: its name, where it lay, its size, and when it was deleted
CLIP       a sample's facts: the span of its source, frames, size, the checksum of its mp4
ANNOTATION a caption of a clip, and what wrote it
METADATA   a clip's scores and further facts
DATASET    a version: name, number, the settings that made it, where its shards are
MEMBER     that a clip belongs to a version
========== ===================================================================================

An ``_id`` is a checksum of what the document says, so that the same clip of the same content is one
document however often and wherever it is added, and another content is another document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from data_curation.catalogue.documents import Collection, Document
from nemo_cosmos.data.schema import ClipRecord

VIDEO = Collection("video", ("name", "deleted"))
CLIP = Collection("clip", ("key", "video", "sha256", "width", "height"))
ANNOTATION = Collection("annotation", ("clip",), text="text")
METADATA = Collection("metadata", ("clip",))
DATASET = Collection("dataset", ("name", "fingerprint"))
MEMBER = Collection("member", ("dataset", "clip"))

CLIP_FIELDS = (
    "_id", "key", "video", "source", "span_s", "fps", "num_frames", "duration_s", "width", "height",
    "sha256",
)  # fmt: skip
"""What a search may ask of a clip, beside ``scores.NAME`` and ``extra.NAME``."""


def digest(*values: object) -> str:
    """A checksum of plain data, 32 hexadecimal digits."""
    content = json.dumps(values, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def video_id(root: str, name: str) -> str:
    """Of a source, by the input folder and its name below that."""
    return digest("video", root, name)


def clip_id(record: ClipRecord) -> str:
    """Of a clip with its content."""
    return digest("clip", record.key, record.sha256)


def clip_document(record: ClipRecord, video: str) -> Document:
    """The CLIP of a sample; its fields are :data:`CLIP_FIELDS`."""
    return {
        "_id": clip_id(record),
        "key": record.key,
        "video": video,
        "source": record.source,
        "span_s": list(record.span_s),
        "fps": record.fps,
        "num_frames": record.num_frames,
        "duration_s": round(record.duration_s, 6),
        "width": record.width,
        "height": record.height,
        "sha256": record.sha256,
    }


def annotation_document(record: ClipRecord) -> Document:
    """The ANNOTATION of a sample's caption."""
    clip, source = clip_id(record), record.caption_source
    text = record.caption
    found = digest("annotation", clip, source, text)
    return {"_id": found, "clip": clip, "kind": "caption", "source": source, "text": text}


def metadata_document(record: ClipRecord) -> Document:
    """The METADATA of a sample: scores and everything else that its JSON holds."""
    facts = {"scores": dict(record.scores), "extra": dict(record.extra)}
    return {"_id": digest("metadata", clip_id(record), facts), "clip": clip_id(record), **facts}


def member_documents(dataset: str, clips: Iterator[tuple[str, str]]) -> Iterator[Document]:
    """The MEMBERs of a version from (clip, shard)."""
    for clip, shard in clips:
        yield {
            "_id": digest("member", dataset, clip),
            "dataset": dataset,
            "clip": clip,
            "shard": shard,
        }
