"""Mark a video, for machines, as made by a model.

The mark is in two places: tags in the mp4's container, and a manifest beside it. Both use IPTC's
digital source type, which C2PA and search engines read. The manifest has the form that C2PA's tools
take (a *manifest definition*, spec 2.x). It is not signed, because that needs your certificate::

    c2patool world.mp4 -m world.c2pa.json -o signed.mp4
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from nemo_cosmos import __version__
from nemo_cosmos.provenance.hashes import file_sha256
from nemo_cosmos.storage import atomic_path

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
PROVENANCE_TAG = "nemo_cosmos_provenance"
SYNTHETIC_TAG, SOURCE_TYPE_TAG = "synthetic", "digital_source_type"
FILE_HASH_LABEL = "org.nemo_cosmos.file_hash"
PROVENANCE_LABEL = "org.nemo_cosmos.provenance"
SUFFIX = ".c2pa.json"


def synthetic_tags(provenance: Mapping[str, object]) -> dict[str, str]:
    """Return the tags for the container of a generated video."""
    return {
        SYNTHETIC_TAG: "true",
        SOURCE_TYPE_TAG: SOURCE_TYPE,
        PROVENANCE_TAG: json.dumps(provenance),
    }


def manifest_path(video: Path) -> Path:
    """Return the path of a video's manifest."""
    return video.with_suffix(SUFFIX)


def write_manifest(video: Path, provenance: Mapping[str, object]) -> Path:
    """Write the manifest beside an existing video; return its path."""
    beside = manifest_path(video)
    agent = {"name": "nemo_cosmos", "version": __version__}
    action = {
        "action": "c2pa.created",
        "when": provenance["created_utc"],
        "digitalSourceType": SOURCE_TYPE,
        "softwareAgent": agent,
    }
    record = {
        "claim_generator_info": [agent],
        "title": video.name,
        "format": "video/mp4",
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
            {
                "label": FILE_HASH_LABEL,
                "data": {"alg": "sha256", "hash": file_sha256(video)},
            },
            {"label": PROVENANCE_LABEL, "data": dict(provenance)},
        ],
    }
    with atomic_path(beside) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return beside


def manifest_matches(video: Path) -> bool | None:
    """Return whether the manifest beside a video is of this very file; None without one."""
    beside = manifest_path(video)
    if not beside.is_file():
        return None
    try:
        assertions = json.loads(beside.read_text(encoding="utf-8"))["assertions"]
        hashes = [a["data"]["hash"] for a in assertions if a["label"] == FILE_HASH_LABEL]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return hashes == [file_sha256(video)]
