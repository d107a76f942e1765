"""A sample has views: one, whose files are as they always were, or several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nemo_cosmos.batch import DEFAULT_VIEWS, view_suffix
from nemo_cosmos.data.loading.buckets import Bucket
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.index import load_index
from nemo_cosmos.data.shards.writer import (
    CuratedWriter,
    ShardWriter,
    list_shards,
    read_shard,
    with_checksums,
)
from nemo_cosmos.errors import SampleError


def test_the_one_default_view_leaves_no_trace_in_the_json(make_record):
    assert "views" not in json.loads(make_record().to_json())
    assert ClipRecord.from_json(make_record().to_json()).views == DEFAULT_VIEWS


def test_another_name_of_the_view_travels(make_record):
    record = make_record().with_changes(views=("wrist",))
    assert ClipRecord.from_json(record.to_json()) == record
    assert "views" not in record.extra


@pytest.mark.parametrize(
    ("views", "reason"),
    [
        ((), "expected 1 to 7"),
        (tuple("abcdefgh"), "8 of them; expected 1 to 7"),
        (("left", "right", "left"), "two are the same"),
        (("a.b",), "cannot name a camera"),
        (("",), "cannot name a camera"),
        (("front", "layout"), "none of json, layout, mp4"),
        (("front", "l" * 90), "a tar cannot hold"),
    ],
)
def test_views_that_cannot_be(make_record, views, reason):
    with pytest.raises(SampleError, match=reason):
        make_record().with_changes(views=views)


def test_each_view_has_a_file_of_its_own():
    views = ("front", "left")
    assert [view_suffix(views, view) for view in views] == ["mp4", "left.mp4"]
    assert view_suffix(views, "left", "layout.mp4") == "left.layout.mp4"


def test_curated_shards_keep_the_videos_of_all_views_together(tmp_path, make_record):
    record = make_record(views=("front", "left"))
    files = {"mp4": b"front", "left.mp4": b"left", "rig.npz": b"rig"}
    with CuratedWriter(tmp_path) as writer:
        writer.add(record, files)
    (shard,) = list_shards(tmp_path)
    (sample,) = read_shard(shard)
    assert {suffix: sample.read(suffix) for suffix in files} == files
    assert {Path(sample.members[name].tar).parts[-3] for name in ("mp4", "left.mp4")} == {"video"}
    sample.verify()


def test_a_damaged_or_missing_view_is_named(tmp_path, make_record):
    record = with_checksums(make_record(views=("front", "left")), {"mp4": b"1", "left.mp4": b"2"})
    with pytest.raises(SampleError, match=r"has no left\.mp4"), CuratedWriter(tmp_path) as writer:
        writer.add(make_record(views=("front", "left")), {"mp4": b"1"})
    with ShardWriter(tmp_path / "a") as plain:
        plain.add(record, {"mp4": b"1", "left.mp4": b"changed"})
        plain.add(record.with_changes(key="b"), {"mp4": b"1"})
    damaged, missing = read_shard(list_shards(tmp_path / "a")[0])
    with pytest.raises(SampleError, match=r"The left\.mp4 of sample 'clip'"):
        damaged.verify()
    with pytest.raises(SampleError, match=r"'b'.* has no 'left\.mp4'"):
        missing.verify()


def write(folder, records):
    with ShardWriter(folder) as writer:
        for record in records:
            writer.add(record, {"mp4": b"video"})
    (shard,) = list_shards(folder)
    return shard


@pytest.mark.parametrize("views", [DEFAULT_VIEWS, ("wrist",)])
def test_an_index_knows_the_views_of_its_shard(tmp_path, make_record, views):
    shard = write(tmp_path, [make_record("a", views=views), make_record("b", views=views)])
    for _ in ("built", "stored"):
        assert load_index(shard).views == views


def test_samples_of_different_views_do_not_share_a_shard(tmp_path, make_record):
    shard = write(tmp_path, [make_record("a"), make_record("b", views=("wrist",))])
    with pytest.raises(
        SampleError, match=r"different views: \['main'\] of 'a'; \['wrist'\] of 'b'"
    ):
        load_index(shard)


def test_a_bucket_is_named_as_before(write_latents):
    assert repr(Bucket(17, 64, 96)) == "Bucket(num_frames=17, height=64, width=96)"
    assert "wrist" in repr(Bucket(17, 64, 96, ("wrist",)))
    assert Bucket(17, 64, 96) != Bucket(17, 64, 96, ("wrist",))


def test_a_batch_names_the_views_of_each_sample(write_latents):
    batch = next(
        iter(
            LatentDataModule(
                write_latents(), micro_batch_size=2, global_batch_size=2
            ).train_dataloader()
        )
    )
    assert batch["views"] == [DEFAULT_VIEWS, DEFAULT_VIEWS]
