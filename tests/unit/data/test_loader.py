"""The order of samples as a pure function of seed and number."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cosmos.data.buckets import (
    content_box,
    group,
    longest_fit,
    nearest_size,
    padding_mask,
)
from nemo_cosmos.data.loader import FiniteRankBatches, MixedOrder, RankBatches, SampleOrder
from nemo_cosmos.errors import ConfigError, SampleError, WrongFrameCountError, WrongSizeError


def buckets(*sizes):
    starts = np.cumsum([0, *sizes])
    return [np.arange(start, start + size) for start, size in zip(starts, sizes, strict=False)]


def epoch(order, number=0):
    first = number * order.batches_per_epoch
    return [order.batch(first + place) for place in range(order.batches_per_epoch)]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    batch_size=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
def test_every_sample_comes_in_every_epoch_and_no_batch_mixes_buckets(sizes, batch_size, seed):
    order = SampleOrder(buckets(*sizes), batch_size=batch_size, seed=seed)
    bucket_of = np.repeat(np.arange(len(sizes)), sizes)
    for number in (0, 3):
        batches = epoch(order, number)
        assert set(np.concatenate(batches)) == set(range(sum(sizes)))
        assert all(len(batch) == batch_size for batch in batches)
        assert all(len(set(bucket_of[batch])) == 1 for batch in batches)


def test_epochs_and_seeds_differ_and_repeat():
    def flat(seed, number):
        order = SampleOrder(buckets(30), batch_size=3, seed=seed)
        return np.concatenate(epoch(order, number)).tolist()

    assert flat(1, 0) == flat(1, 0)
    assert flat(1, 0) != flat(1, 1)
    assert flat(1, 0) != flat(2, 0)
    assert flat(1, 0) != list(range(30))


def test_any_batch_can_be_asked_first():
    order = SampleOrder(buckets(9, 4), batch_size=2, seed=5)
    forward = [order.batch(number).tolist() for number in range(30)]
    fresh = SampleOrder(buckets(9, 4), batch_size=2, seed=5)
    assert [fresh.batch(number).tolist() for number in reversed(range(30))] == forward[::-1]


def test_order_survives_the_way_to_a_worker():
    order = SampleOrder(buckets(9), batch_size=2, seed=5)
    order.batch(0)
    again = pickle.loads(pickle.dumps(order))
    assert again.batch(7).tolist() == order.batch(7).tolist()


def test_without_shuffle_in_order():
    order = SampleOrder(buckets(4), batch_size=2, shuffle=False)
    assert np.concatenate(epoch(order)).tolist() == [0, 1, 2, 3]


def test_nothing_to_order():
    with pytest.raises(SampleError, match="no sample to train on"):
        SampleOrder([np.arange(0)], batch_size=1)


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 0.9])
def test_mixing_keeps_the_ratio_at_every_moment(ratio):
    videos = SampleOrder([np.arange(10)], batch_size=2, seed=1)
    images = SampleOrder([np.arange(10, 16)], batch_size=2, seed=1)
    order = MixedOrder(videos, images, ratio)
    kinds = [bool((order.batch(number) >= 10).all()) for number in range(200)]
    for length in range(1, 201):
        assert abs(sum(kinds[:length]) - ratio * length) < 1
    drawn = [order.batch(n).tolist() for n in range(200) if kinds[n]]
    assert drawn == [images.batch(n).tolist() for n in range(len(drawn))]


@pytest.mark.parametrize("ratio", [-0.5, 1.0, 2.0])
def test_ratio_that_is_no_share(ratio):
    order = SampleOrder([np.arange(4)], batch_size=2)
    with pytest.raises(ConfigError, match="image_ratio"):
        MixedOrder(order, order, ratio)


def draws(order, count, **options):
    batches = RankBatches(order, **{"micro_batch_size": 1, **options})
    return list(itertools.islice(iter(batches), count))


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_each_global_batch(world_size):
    order = SampleOrder(buckets(24), batch_size=4, seed=3)
    per_rank = [
        draws(order, 6 * 4 // world_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    rounds = zip(*per_rank, strict=True)
    flat = [draw for turn in rounds for rank_draws in turn for draw in rank_draws]
    assert [draw.position for draw in flat] == list(range(24))
    assert [draw.index for draw in flat] == np.concatenate(epoch(order)).tolist()


def test_resume_on_another_number_of_ranks():
    order = SampleOrder(buckets(24), batch_size=4, seed=3)
    whole = [draw for batch in draws(order, 24) for draw in batch]
    first = RankBatches(order, micro_batch_size=2, rank=0, world_size=2)
    consumed = list(itertools.islice(iter(first), 3))
    assert len(consumed) == 3
    state = first.state_dict()
    assert state == {"consumed_samples": 12}
    resumed = RankBatches(order, micro_batch_size=1)
    resumed.load_state_dict(state)
    rest = [draw for batch in itertools.islice(iter(resumed), 12) for draw in batch]
    assert rest == whole[12:]


def test_start_inside_a_batch_begins_with_the_next():
    order = SampleOrder(buckets(24), batch_size=4, seed=3)
    (first,) = draws(order, 1, start=6)
    assert first[0].position == 8


def test_finite_batches_have_a_length():
    order = SampleOrder(buckets(10), batch_size=4, shuffle=False)
    batches = FiniteRankBatches(order, micro_batch_size=2, num_batches=order.batches_per_epoch)
    first = list(batches)
    assert len(batches) == len(first) == 6
    assert list(batches) == first, "a second validation would see other samples"


@pytest.mark.parametrize(
    ("micro_batch_size", "world_size", "nearest"),
    [(3, 1, "3 and 6"), (1, 3, "3 and 6"), (8, 1, "8")],
)
def test_batch_that_does_not_divide(micro_batch_size, world_size, nearest):
    order = SampleOrder(buckets(8), batch_size=4)
    with pytest.raises(ConfigError, match=f"nearest that are: {nearest}"):
        RankBatches(order, micro_batch_size=micro_batch_size, world_size=world_size)


class TestBuckets:
    def test_nearest_size_goes_by_aspect_then_area(self):
        sizes = [(96, 128), (96, 96), (48, 64), (128, 96)]
        assert nearest_size(480, 640, sizes) == (96, 128)
        assert nearest_size(50, 66, sizes) == (48, 64)
        assert nearest_size(500, 480, sizes) == (96, 96)
        assert nearest_size(1920, 1080, sizes) == (128, 96)
        with pytest.raises(WrongSizeError, match="no bucket size"):
            nearest_size(1, 1, [])

    def test_longest_fit(self):
        assert longest_fit(40, (17, 33, 57)) == 33
        assert longest_fit(16, (17,)) is None
        for lengths in ((), (0, 17)):
            with pytest.raises(WrongFrameCountError, match="bucket lengths"):
                longest_fit(40, lengths)

    def test_group_keeps_the_order(self):
        places = group(["b", "a", "b"])
        assert list(places) == ["b", "a"]
        assert places["b"].tolist() == [0, 2]

    def test_mask_and_box_are_inverse(self):
        mask = padding_mask((8, 10), (2, 0, 6, 9))
        assert mask.shape == (1, 8, 10)
        assert mask.sum() == 80 - 4 * 9
        assert content_box(mask[0].astype(np.uint8)) == (2, 0, 6, 9)
        assert not padding_mask((8, 10)).any()

    @pytest.mark.parametrize("box", [(0, 0, 9, 10), (4, 0, 4, 10), (-1, 0, 8, 10)])
    def test_box_outside_the_picture(self, box):
        with pytest.raises(WrongSizeError, match="does not lie inside"):
            padding_mask((8, 10), box)
