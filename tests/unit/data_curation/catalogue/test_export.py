"""A version, or a part of it, as shards of its own."""

from __future__ import annotations

import shutil

import pytest

from data_curation.catalogue import export_dataset
from nemo_cosmos.data.shards.writer import CuratedWriter, read_samples
from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    MissingFileError,
    SampleError,
    StorageFullError,
)


@pytest.fixture
def version(embedded, make_folder):
    return embedded.add(make_folder("one", {"k1": "red", "k2": "blue", "k3": "green"}), "robot")


def test_what_a_search_finds_is_copied_whole(embedded, version, tmp_path):
    seen = []
    clips = embedded.clips(version, where={"height": 360})
    count = export_dataset(version, clips, tmp_path / "part", lambda: seen.append(1))
    assert count == len(seen) == 2
    originals = {each.key: each for each in read_samples(tmp_path / "one" / "v0")}
    copies = {each.key: each for each in read_samples(tmp_path / "part" / "v0")}
    assert set(copies) == {"k1", "k3"}
    for key, copy in copies.items():
        assert copy.record == originals[key].record
        assert copy.read("mp4") == originals[key].read("mp4")


def test_nothing_is_written_over(embedded, version, tmp_path):
    with pytest.raises(ConfigError, match="holds shards already"):
        export_dataset(version, embedded.clips(version), tmp_path / "one")
    with pytest.raises(InputError, match="lies inside"):
        export_dataset(version, embedded.clips(version), tmp_path / "one" / "part")
    with pytest.raises(ConfigError, match="nothing to export"):
        export_dataset(version, [], tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_shards_that_changed_or_went_are_named(embedded, version, tmp_path, make_folder):
    clips = list(embedded.clips(version))
    shutil.rmtree(tmp_path / "one")
    with pytest.raises(MissingFileError, match="is gone"):
        export_dataset(version, clips, tmp_path / "part")
    make_folder("one", {"k1": "other", "k2": "blue", "k3": "green"})
    with pytest.raises(SampleError, match=r"'k1'.*not the one of 'robot@1'"):
        export_dataset(version, clips, tmp_path / "part")
    assert list((tmp_path / "part").iterdir()) == []


def test_a_full_disk_leaves_nothing_half(embedded, version, tmp_path, monkeypatch):
    def full(self, record, files):
        raise StorageFullError("No space left.")

    monkeypatch.setattr(CuratedWriter, "add", full)
    with pytest.raises(StorageFullError):
        export_dataset(version, embedded.clips(version), tmp_path / "part")
    assert list((tmp_path / "part").iterdir()) == []
