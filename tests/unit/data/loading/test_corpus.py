"""Corpora: one numbering of all samples, from indexes alone, and shards that cannot be read."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pytest

from nemo_cosmos.data import shard_module
from nemo_cosmos.data.loading import latents
from nemo_cosmos.data.loading.buckets import Bucket
from nemo_cosmos.data.loading.corpus import Corpus
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.shards.bad_shards import BadShards
from nemo_cosmos.data.shards.writer import list_shards
from nemo_cosmos.errors import MissingFileError, SampleError
from nemo_cosmos.platform import device

LATENTS = ("json", "latent.safetensors", "t5.safetensors")


def own_bucket(*shape):
    return [Bucket(*shape)]


def corpus_of(*folders, limit=0, required=LATENTS, **options):
    return Corpus(
        folders,
        required=required,
        buckets_of=own_bucket,
        bad=BadShards(limit),
        **options,
    )


def seen(data, count):
    iterator = iter(data.train_dataloader())
    return [next(iterator)["key"][0].split("@")[0] for _ in range(count)]


@pytest.fixture
def folder(write_latents):
    """Twelve samples in shards of two."""
    folder = write_latents(count=12, tokens=500, height=96, width=128)
    assert len(list_shards(folder)) == 6
    return folder


class TestNumbering:
    def test_numbers_run_through_all_folders(self, write_latents):
        folders = [write_latents("a", 7), write_latents("b", 3, height=96, first=20)]
        corpus = corpus_of(*folders)
        assert len(corpus) == 10
        keys = [corpus.sample(number).key for number in range(10)]
        assert keys == [*(f"s{n}" for n in range(7)), "s20", "s21", "s22"]
        assert {bucket: int(counts.sum()) for bucket, counts in corpus.counts.items()} == {
            Bucket(17, 64, 96): 7,
            Bucket(17, 96, 96): 3,
        }
        assert corpus.latent_shapes(np.array([9, 0, 9])).tolist() == [
            [16, 3, 12, 12],
            [16, 3, 8, 12],
            [16, 3, 12, 12],
        ]

    def test_shards_of_mixed_shapes(self, tmp_path, make_record):
        from nemo_cosmos.data.shards.writer import ShardWriter

        with ShardWriter(tmp_path / "mixed") as writer:
            for number in range(6):
                writer.add(make_record(f"s{number}", num_frames=17 if number % 3 else 1), {})
        corpus = corpus_of(tmp_path / "mixed", required=("json",))
        image, video = corpus.counts
        assert corpus.rows(0, image).tolist() == [0, 3]
        assert corpus.rows(0, video).tolist() == [1, 2, 4, 5]
        assert [corpus.nth(video, place) for place in range(4)] == [1, 2, 4, 5]

    def test_workers_get_it_without_its_cache(self, folder):
        corpus = corpus_of(folder)
        corpus.sample(0)
        assert pickle.loads(pickle.dumps(corpus)).sample(11).key == "s11"

    def test_the_fingerprint_is_of_the_content_not_of_the_place(self, folder, tmp_path):
        first = corpus_of(folder).fingerprint()
        shutil.copytree(folder, tmp_path / "copy")
        assert corpus_of(tmp_path / "copy").fingerprint() == first
        Path(list_shards(tmp_path / "copy")[0]).unlink()
        assert corpus_of(tmp_path / "copy", limit=1).fingerprint() != first

    def test_remote_folders_are_read_like_local_ones(self, folder):
        memory = fsspec.filesystem("memory")
        memory.put(str(folder), "/latents", recursive=True)
        try:
            remote = LatentDataModule("memory://latents", num_workers=0)
            assert seen(remote, 12) == seen(LatentDataModule(folder), 12)
            assert any(path.endswith(".tar.index") for path in memory.find("/latents"))
        finally:
            memory.rm("/latents", recursive=True)

    def test_single_tars(self, folder):
        shards = list_shards(folder)
        assert [corpus_of(*shards[:2]).sample(number).key for number in range(4)] == [
            *("s0", "s1", "s2", "s3")
        ]


def shard_2(folder):
    return Path(list_shards(folder)[2])


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path):
    with path.open("r+b") as handle:
        handle.write(b"x" * 600)


DAMAGE = [
    (truncate, "truncated"),
    (overwrite, "wrong checksum"),
    (Path.unlink, "No such file"),
]


class TestBadShards:
    @pytest.mark.parametrize(("damage", "reason"), DAMAGE)
    def test_none_is_the_default_limit_and_the_error_names_it(self, folder, damage, reason):
        corpus_of(folder)  # writes the indexes, by which a missing shard is noticed
        damage(shard_2(folder))
        with pytest.raises(SampleError, match=rf"000002\.tar' cannot be read.*{reason}.*is 0"):
            LatentDataModule(folder).train_dataloader()

    @pytest.mark.parametrize(("damage", "reason"), DAMAGE)
    def test_up_to_the_limit_they_are_left_out_and_logged(self, folder, damage, reason, caplog):
        corpus_of(folder)
        damage(shard_2(folder))
        data = LatentDataModule(folder, max_bad_shards=1)
        with caplog.at_level(logging.WARNING):
            assert sorted(seen(data, 10)) == sorted(f"s{n}" for n in range(12) if n not in (4, 5))
        assert "bad shard 1 of at most 1" in caplog.text
        assert reason in caplog.text
        assert list(data.bad_shards.reasons) == [str(folder / "part_000000" / "000002.tar")]

    def test_one_more_than_the_limit(self, folder):
        corpus_of(folder)
        for shard in list_shards(folder)[2:5]:
            Path(shard).unlink()
        with pytest.raises(SampleError, match=r"000004\.tar'.*makes 3 bad shards.*is 2"):
            LatentDataModule(folder, max_bad_shards=2).train_dataloader()

    def test_missing_tars_that_were_named_are_bad_shards_too(self, folder):
        tars = [*list_shards(folder), str(folder / "none.tar")]
        with pytest.raises(SampleError, match=r"none\.tar' cannot be read"):
            LatentDataModule(tars).train_dataloader()
        assert len(seen(LatentDataModule(tars, max_bad_shards=1), 12)) == 12

    def test_other_data_are_no_damage(self, write_latents):
        folder = write_latents(with_actions=False)
        with pytest.raises(SampleError, match=r"has no 'action\.npy'"):
            LatentDataModule(folder, controls=("action",), max_bad_shards=9).train_dataloader()

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_damage_while_training(self, folder, num_workers):
        data = LatentDataModule(folder, num_workers=num_workers, max_bad_shards=1)
        loader = data.train_dataloader()
        shard_2(folder).unlink()
        iterator = iter(loader)
        keys = [next(iterator)["key"][0].split("@")[0] for _ in range(12)]
        assert {f"s{n}" for n in range(12) if n not in (4, 5)} == set(keys)
        assert len(data.bad_shards.reasons) == 1

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_damage_while_training_over_the_limit(self, folder, num_workers):
        iterator = iter(LatentDataModule(folder, num_workers=num_workers).train_dataloader())
        shard_2(folder).unlink()
        with pytest.raises(SampleError, match=r"^The shard '.*000002\.tar' cannot be read"):
            for _ in range(12):
                next(iterator)

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_implausible_latents_are_skipped_and_counted(
        self, folder, num_workers, monkeypatch, caplog
    ):
        monkeypatch.setattr(latents, "MAX_LATENT", 0.105)  # of the last sample alone, s11
        data = LatentDataModule(folder, num_workers=num_workers)
        with caplog.at_level(logging.WARNING):
            assert "s11" not in seen(data, 24)
        ((reason, times),) = data.bad_shards.skipped.items()
        assert "'s11'" in reason and "magnitude of 0.11" in reason and times == 2
        assert caplog.text.count("Skipped sample 1") == 1 and not data.bad_shards.reasons
        monkeypatch.setattr(latents, "MAX_LATENT", -1.0)
        with pytest.raises(SampleError, match=r"Nothing readable is left.*magnitude"):
            next(iter(LatentDataModule(folder).train_dataloader()))

    def test_everything_gone_while_training(self, folder):
        iterator = iter(LatentDataModule(folder, max_bad_shards=99).train_dataloader())
        shutil.rmtree(folder)
        with pytest.raises(SampleError, match="Nothing readable is left"):
            next(iterator)

    def test_shard_written_again_while_training(self, folder, write_latents):
        corpus = corpus_of(folder)
        shutil.copy(list_shards(write_latents("other", 1, first=90))[0], list_shards(folder)[0])
        with pytest.raises(MissingFileError, match="has changed since it was indexed"):
            corpus.sample(0).read("json")
        corpus_of(folder)  # another run indexes the new one
        with pytest.raises(SampleError, match="has 1 sample, but had 2"):
            pickle.loads(pickle.dumps(corpus)).sample(0)

    def test_what_stands_in_does_not_depend_on_ranks(self, folder, monkeypatch):
        def keys_of(world_size):
            found = {}
            for rank in range(world_size):
                place = (rank, world_size)
                monkeypatch.setattr(shard_module, "data_parallel_place", partial(tuple, place))
                data = LatentDataModule(folder, global_batch_size=2, max_bad_shards=1)
                iterator = iter(data.train_dataloader())
                hidden = shutil.move(list_shards(folder)[2], folder / "hidden")
                for _ in range(12 // world_size):
                    key, position = next(iterator)["key"][0].split("@")
                    found[int(position)] = key
                shutil.move(hidden, list_shards(folder)[2])
            return found

        assert keys_of(1) == keys_of(2)


class TestBadShardsAndResume:
    def test_a_shard_left_out_at_first_stays_out(self, folder, tmp_path):
        corpus_of(folder)
        shard = list_shards(folder)[2]
        shutil.move(shard, tmp_path / "aside")
        first = LatentDataModule(folder, max_bad_shards=1)
        whole = seen(first, 10)
        state = first.state_dict() | {"consumed_samples": 4}
        assert state["excluded"] == ["0/part_000000/000002.tar"]
        shutil.move(tmp_path / "aside", shard)
        second = LatentDataModule(folder)
        second.load_state_dict(state)
        assert seen(second, 6) == whole[4:]

    def test_a_shard_that_went_bad_keeps_its_place(self, folder):
        first = LatentDataModule(folder)
        whole = seen(first, 12)
        state = first.state_dict() | {"consumed_samples": 4}
        shard_2(folder).unlink()
        second = LatentDataModule(folder, max_bad_shards=1)
        second.load_state_dict(state)
        pairs = zip(whole[4:], seen(second, 8), strict=True)
        assert all(was in ("s4", "s5") or was == now for was, now in pairs)

    def test_missing_folder(self, tmp_path):
        with pytest.raises(MissingFileError, match="no file or folder"):
            corpus_of(tmp_path / "none", limit=5)


def test_batches_for_a_gpu_are_pinned(folder, monkeypatch):
    """From other memory a copy waits for all that the GPU has to do."""
    assert not LatentDataModule(folder).train_dataloader().pin_memory
    monkeypatch.setattr(device, "has_cuda", lambda: True)
    assert LatentDataModule(folder).train_dataloader().pin_memory


@pytest.mark.parametrize(("cores", "ranks", "workers"), [(16, 2, 4), (8, 4, 2), (2, 8, 1)])
def test_processes_read_beside_a_gpu_unless_somebody_chose(
    folder, monkeypatch, cores, ranks, workers
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    for name in ("LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, str(ranks))
    assert LatentDataModule(folder).train_dataloader().num_workers == 0
    monkeypatch.setattr(device, "has_cuda", lambda: True)
    assert LatentDataModule(folder).train_dataloader().num_workers == workers
    assert LatentDataModule(folder, num_workers=0).train_dataloader().num_workers == 0


def test_a_batch_says_that_its_latents_were_looked_at(folder):
    batch = next(iter(LatentDataModule(folder).train_dataloader()))
    assert batch["is_finite"] == [True]
