"""A sample has views; today one, whose files are as they always were."""

from __future__ import annotations

import json

import pytest

from nemo_cosmos.batch import DEFAULT_VIEWS
from nemo_cosmos.data.loading.buckets import Bucket
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.index import load_index
from nemo_cosmos.data.shards.writer import ShardWriter, list_shards
from nemo_cosmos.errors import SampleError


def test_the_one_default_view_leaves_no_trace_in_the_json(make_record):
    assert "views" not in json.loads(make_record().to_json())
    assert ClipRecord.from_json(make_record().to_json()).views == DEFAULT_VIEWS


def test_another_name_of_the_view_travels(make_record):
    record = make_record().with_changes(views=("wrist",))
    assert ClipRecord.from_json(record.to_json()) == record
    assert "views" not in record.extra


@pytest.mark.parametrize("views", [(), ("left", "right"), ("a.b",), ("",)])
def test_views_that_this_release_does_not_read(make_record, views):
    with pytest.raises(SampleError, match="expected one name"):
        make_record().with_changes(views=views)


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
