"""Packs: first-fit-decreasing, balance, layout, and an order that resumes anywhere."""

from __future__ import annotations

import itertools
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cosmos.data import shard_module
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.order.packing import (
    PackConfig,
    balance,
    collate_pack,
    first_fit_decreasing,
    num_tokens,
)
from nemo_cosmos.data.shards.bad_shards import BadShards
from nemo_cosmos.data.shards.writer import list_shards
from nemo_cosmos.errors import ConfigError, SampleError


def first_fit_as_defined(lengths, capacity):
    """The plain definition: the longest first, each into the first bin with room."""
    bins = []
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        for found in bins:
            if sum(lengths[other] for other in found) + lengths[item] <= capacity:
                found.append(item)
                break
        else:
            bins.append([item])
    return bins


class TestFirstFitDecreasing:
    @settings(max_examples=150, deadline=None)
    @given(lengths=st.lists(st.integers(1, 40), max_size=60), capacity=st.integers(40, 90))
    def test_finds_the_bins_of_the_definition(self, lengths, capacity):
        found = first_fit_decreasing(np.array(lengths, np.int64), capacity)
        assert [items.tolist() for items in found] == first_fit_as_defined(lengths, capacity)

    def test_full_bins_where_everything_divides(self):
        lengths = np.array([1, 2, 4] * 64)
        assert {int(lengths[items].sum()) for items in first_fit_decreasing(lengths, 8)} == {8}

    @pytest.mark.parametrize("lengths", [[3, 11], [0, 4]])
    def test_lengths_that_fit_into_no_bin(self, lengths):
        with pytest.raises(ConfigError, match="a pack holds 1 to 10"):
            first_fit_decreasing(np.array(lengths), 10)


class TestBalance:
    @settings(max_examples=60, deadline=None)
    @given(
        num_ranks=st.integers(1, 4),
        each=st.integers(1, 5),
        seed=st.integers(0, 99),
    )
    def test_equal_numbers_and_never_worse_than_by_turns(self, num_ranks, each, seed):
        costs = np.random.default_rng(seed).lognormal(size=num_ranks * each)
        shares = balance(costs, num_ranks)
        assert sorted(itertools.chain(*(share.tolist() for share in shares))) == list(
            range(len(costs))
        )
        assert {len(share) for share in shares} == {each}
        in_turns = -np.sort(-costs).reshape(each, num_ranks)
        assert max(costs[share].sum() for share in shares) <= in_turns.sum(0).max() + 1e-9

    def test_the_costliest_is_put_with_the_cheapest(self):
        shares = balance(np.array([9.0, 8.0, 7.0, 3.0, 2.0, 1.0]), 3)
        assert sorted(share.tolist() for share in shares) == [[0, 5], [1, 4], [2, 3]]

    def test_number_that_does_not_divide(self):
        with pytest.raises(ConfigError, match="multiple of 3"):
            balance(np.ones(4), 3)


PATCH = (1, 2, 2)


class TestPack:
    def test_tokens_of_a_latent(self):
        assert num_tokens((16, 3, 8, 12), PATCH) == 72
        assert num_tokens((16, 1, 4, 4), PATCH) == 4

    @pytest.mark.parametrize("shape", [(16, 3, 7, 12), (16, 0, 4, 4), (16, 4, 4)])
    def test_latent_that_does_not_divide(self, shape):
        with pytest.raises(ConfigError, match="does not divide into patches"):
            num_tokens(shape, PATCH)

    def test_collate_keeps_each_samples_own_numbers(self):
        def sample(frames, fps):
            return {
                "key": f"{frames}",
                "latent": torch.full((16, frames, 4, 4), fps),
                "fps": torch.tensor(fps),
                "t5_text_embeddings": torch.zeros(8, 2),
                "padding_mask": torch.zeros(1, 32, 32),
                "action": torch.zeros(8 * (frames - 1), 7),
            }

        batch = collate_pack([sample(3, 24.0), sample(1, 10.0)])
        assert batch["fps"].tolist() == [24, 10]
        assert batch["t5_text_embeddings"].shape == (2, 8, 2)
        assert [latent.shape[1] for latent in batch["latent"]] == [3, 1]
        assert [len(action) for action in batch["action"]] == [16, 0]
        assert batch["key"] == ["3", "1"]

    @pytest.mark.parametrize("changes", [{"max_tokens": 0}, {"patch": (1, 0, 2)}, {"window": 0}])
    def test_impossible_settings(self, changes):
        with pytest.raises(ConfigError, match="positive numbers"):
            PackConfig(**{"max_tokens": 8, **changes})


@pytest.fixture
def folders(write_latents):
    """Videos of two sizes and images: 72, 48 and 24 tokens."""
    return [
        write_latents("a", 6),
        write_latents("b", 5, height=64, width=64, first=10),
        write_latents("c", 8, num_frames=1, first=20),
    ]


PACKING = PackConfig(max_tokens=150, window=19)


def module(folders, monkeypatch=None, place=(0, 1), **options):
    if monkeypatch is not None:
        monkeypatch.setattr(shard_module, "data_parallel_place", lambda: place)
    return LatentDataModule(folders, **{"global_batch_size": 2, "packing": PACKING, **options})


def take(data, count):
    iterator = iter(data.train_dataloader())
    return [next(iterator) for _ in range(count)]


def names(batches):
    return [key.split("@")[0] for batch in batches for key in batch["key"]]


def pack_tokens(batch):
    return sum(num_tokens(latent.shape, PATCH) for latent in batch["latent"])


ALL = [f"s{number}" for number in (*range(6), *range(10, 15), *range(20, 28))]


class TestPackedData:
    def test_packs_are_full_and_every_sample_comes_once(self, folders):
        batches = take(module(folders), 6)
        assert sorted(names(batches)) == sorted(ALL)
        tokens = [pack_tokens(batch) for batch in batches]
        assert sum(tokens) == 6 * 72 + 5 * 48 + 8 * 24
        assert max(tokens) <= 150
        assert len({latent.shape for batch in batches for latent in batch["latent"]}) == 3

    def test_workers_do_not_change_the_packs(self, folders):
        alone, helped = (names(take(module(folders, num_workers=n), 7)) for n in (0, 2))
        assert alone == helped

    def test_ranks_share_every_step(self, folders, monkeypatch):
        alone = take(module(folders), 8)
        ranks = [take(module(folders, monkeypatch, (rank, 2)), 4) for rank in (0, 1)]
        for step in range(4):
            together = {*names([ranks[0][step]]), *names([ranks[1][step]])}
            assert together == set(names(alone[2 * step : 2 * step + 2]))

    def test_resume_on_other_ranks_and_with_other_steps(self, folders, monkeypatch):
        first = module(folders)
        seen = names(take(first, 2))
        first.trainer = SimpleNamespace(global_step=1)
        state = json.loads(json.dumps(first.state_dict()))
        for rank in (0, 1):
            data = module(folders, monkeypatch, (rank, 2), global_batch_size=4)
            data.load_state_dict(state)
            seen += names(take(data, 2))
        assert sorted(seen) == sorted(ALL)

    def test_the_state_goes_over_the_end_of_windows(self, folders):
        data = module(folders)
        whole = names(take(data, 40))
        data.trainer = SimpleNamespace(global_step=13)
        second = module(folders)
        second.load_state_dict(data.state_dict())
        rest = names(take(second, 14))
        assert rest == whole[len(whole) - len(rest) :]
        assert second.state_dict()["consumed_samples"] == 26

    def test_what_stands_in_for_a_damaged_sample_fits_into_its_pack(self, folders):
        data = module(folders, max_bad_shards=1)
        loader = data.train_dataloader()
        os.truncate(list_shards(folders[0])[0], 3000)
        batches = list(itertools.islice(loader, 6))
        assert set(names(batches)) == {name for name in ALL if int(name[1:]) >= 5}
        assert max(pack_tokens(batch) for batch in batches) <= 150
        assert len(data.bad_shards.reasons) == 1

    def test_validation_is_not_packed(self, folders):
        data = module(folders, val_path=folders)
        batches = list(data.val_dataloader())
        assert set(names(batches)) == set(ALL)
        assert {tuple(batch["latent"].shape) for batch in batches} == {
            (1, 16, 3, 8, 12),
            (1, 16, 3, 8, 8),
            (1, 16, 1, 8, 12),
        }

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"micro_batch_size": 2}, "a micro-batch is one pack"),
            ({"packing": PackConfig(max_tokens=71)}, "at least 72"),
            ({"packing": PackConfig(max_tokens=150, patch=(1, 3, 3))}, "does not divide"),
        ],
    )
    def test_impossible_layouts(self, folders, options, message):
        with pytest.raises(ConfigError, match=message):
            take(module(folders, **options), 1)

    def test_ranks_that_do_not_divide_the_step(self, folders, monkeypatch):
        with pytest.raises(ConfigError, match="multiple of 3"):
            take(module(folders, monkeypatch, (0, 3)), 1)

    def test_ratio_and_packing_exclude_each_other(self, folders):
        with pytest.raises(ConfigError, match="image_ratio"):
            module(folders, image_ratio=0.5)

    def test_other_packing_is_another_order(self, folders):
        first = module(folders)
        first.train_dataloader()
        second = module(folders, packing=PackConfig(max_tokens=200, window=19))
        second.load_state_dict(first.state_dict())
        with pytest.raises(ConfigError, match="packing was"):
            second.train_dataloader()


def test_limit_of_bad_shards_is_one_number():
    with pytest.raises(SampleError, match="makes 1 bad shard, and max_bad_shards is 0"):
        BadShards().add("a.tar", "It is gone.")
