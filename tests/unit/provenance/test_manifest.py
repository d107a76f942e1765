"""A generated video says that it is one: in its tags, and in a manifest for just this file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nemo_cosmos.inference.result import Result
from nemo_cosmos.provenance.hashes import file_sha256
from nemo_cosmos.provenance.manifest import (
    PROVENANCE_TAG,
    SOURCE_TYPE,
    manifest_matches,
    manifest_path,
)
from nemo_cosmos.video import Video, probe

PROVENANCE = {"created_utc": "2026-01-02T03:04:05+00:00", "guards": [], "task": "generate"}


@pytest.fixture
def saved(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
    Result(Video(frames, 8.0), PROVENANCE).save(tmp_path / "world.mp4")
    return tmp_path / "world.mp4"


def test_the_tags_say_synthetic(saved):
    tags = probe(saved).metadata
    assert tags["synthetic"] == "true"
    assert tags["digital_source_type"] == SOURCE_TYPE
    assert json.loads(tags[PROVENANCE_TAG]) == PROVENANCE


def test_the_manifest_names_the_source_and_the_file(saved):
    manifest = json.loads(manifest_path(saved).read_text())
    assertions = {a["label"]: a["data"] for a in manifest["assertions"]}
    (action,) = assertions["c2pa.actions.v2"]["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"] == SOURCE_TYPE
    assert action["when"] == PROVENANCE["created_utc"]
    assert assertions["org.nemo_cosmos.file_hash"]["hash"] == file_sha256(saved)
    assert assertions["org.nemo_cosmos.provenance"] == PROVENANCE
    assert manifest["title"] == "world.mp4"


def test_a_manifest_of_another_file_does_not_match(saved):
    assert manifest_matches(saved) is True
    saved.write_bytes(saved.read_bytes() + b"x")
    assert manifest_matches(saved) is False
    manifest_path(saved).write_text("[]")
    assert manifest_matches(saved) is False
    manifest_path(saved).unlink()
    assert manifest_matches(saved) is None
