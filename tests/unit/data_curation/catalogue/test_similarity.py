"""Clips that look alike, by the cosine of their embeddings."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_curation.catalogue import similar_clips
from nemo_cosmos.errors import ConfigError, MissingFileError

ANGLES = {"k1": 0.0, "k2": 60.0, "k3": 10.0, "k4": 180.0}


@pytest.fixture
def version(embedded, make_folder):
    """Four clips whose embeddings are directions in a plane."""
    folder = make_folder("one", dict.fromkeys(ANGLES, "red") | {"k1": "blue"})
    index = folder / "embeddings"
    index.mkdir()
    radians = np.radians(list(ANGLES.values()))
    vectors_ND = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float16)
    np.save(index / "vectors.npy", vectors_ND)
    np.save(index / "signatures.npy", np.zeros((4, 1, 16, 16), np.uint8))
    (index / "clips.jsonl").write_text("".join(json.dumps({"key": k}) + "\n" for k in ANGLES))
    (index / "index.json").write_text('{"model": "plane"}')
    return embedded.add(folder, "robot")


def test_the_nearest_come_first_with_their_cosine(embedded, version):
    found = list(similar_clips(embedded, version, "k1"))
    assert [clip["key"] for clip in found] == ["k3", "k2", "k4"]
    cosines = [np.cos(np.radians(ANGLES[clip["key"]])) for clip in found]
    assert [clip["similarity"] for clip in found] == pytest.approx(cosines, abs=1e-3)
    assert [clip["key"] for clip in similar_clips(embedded, version, "k2", limit=1)] == ["k3"]


def test_unknown_clips_and_versions_without_embeddings(embedded, version, make_folder):
    with pytest.raises(ConfigError, match="no embedded clip 'k9'"):
        list(similar_clips(embedded, version, "k9"))
    bare = embedded.add(make_folder("two", {"k1": "red"}), "bare")
    with pytest.raises(MissingFileError, match="no embeddings"):
        list(similar_clips(embedded, bare, "k1"))
