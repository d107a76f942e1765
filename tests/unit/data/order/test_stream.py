"""The order of samples as a pure function of seed and number."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cosmos.data.loading.buckets import Bucket
from nemo_cosmos.data.loading.loader import FiniteRankBatches, RankBatches
from nemo_cosmos.data.order.resume import EqualBatches
from nemo_cosmos.data.order.stream import BucketOrder, MixedOrder, OnePass, Stream
from nemo_cosmos.errors import ConfigError, SampleError


class Table:
    """Samples in shards, by the bucket of each; what a corpus knows of real ones."""

    def __init__(self, *shards: list[int]) -> None:
        self.shards = [np.array(shard, int) for shard in shards]
        self.starts = np.cumsum([0, *(len(shard) for shard in self.shards)])
        kinds = sorted({int(kind) for shard in self.shards for kind in shard})
        self.buckets = [Bucket(kind, 8, 8) for kind in kinds]
        self.counts = {
            bucket: np.array([(shard == bucket.num_frames).sum() for shard in self.shards])
            for bucket in self.buckets
        }

    def rows(self, shard, bucket):
        return np.flatnonzero(self.shards[shard] == bucket.num_frames)

    def numbers_of(self, bucket):
        return np.flatnonzero(np.concatenate(self.shards) == bucket.num_frames)


def one_bucket(*sizes: int) -> Table:
    return Table(*([17] * size for size in sizes))


tables = st.lists(
    st.lists(st.sampled_from([1, 9, 17]), min_size=1, max_size=12), min_size=1, max_size=5
).map(lambda shards: Table(*shards))


def order_of(table, batch_size=2, **options):
    return BucketOrder(table, table.buckets, batch_size=batch_size, **options)


def keys_of(order, count):
    return [order.batch(number).numbers.tolist() for number in range(count)]


class TestStream:
    @settings(max_examples=60, deadline=None)
    @given(table=tables, window=st.integers(1, 40), seed=st.integers(0, 9), shuffle=st.booleans())
    def test_every_pass_has_every_sample_once(self, table, window, seed, shuffle):
        for bucket in table.buckets:
            stream = Stream(table, bucket, seed=seed, window=window, shuffle=shuffle)
            size = stream.num_samples
            for epoch in (0, 1, 4):
                assert sorted(stream.take(epoch * size, size)) == list(table.numbers_of(bucket))

    def test_pieces_are_those_of_the_whole(self):
        stream = Stream(one_bucket(5, 8, 3), Bucket(17, 8, 8), seed=3, window=6)
        whole = stream.take(0, 64).tolist()
        pieces = [stream.take(begin, 7).tolist() for begin in range(0, 63, 7)]
        assert list(itertools.chain(*pieces)) == whole[:63]
        assert [int(stream.take(place, 1)[0]) for place in reversed(range(64))] == whole[::-1]

    def test_a_block_stays_within_its_shards(self):
        """What bounds the memory, and the number of shards that are read at a time."""
        stream = Stream(one_bucket(*[10] * 8), Bucket(17, 8, 8), seed=1, window=20)
        shards = stream.take(0, 80).reshape(4, 20) // 10
        assert [len(set(block)) for block in shards.tolist()] == [2, 2, 2, 2]
        assert len({tuple(block) for block in shards.tolist()}) == 4

    def test_seeds_passes_and_windows_differ(self):
        bucket, table = Bucket(17, 8, 8), one_bucket(30)
        first = Stream(table, bucket, seed=1).take(0, 30).tolist()
        assert first == Stream(table, bucket, seed=1).take(0, 30).tolist()
        assert first != Stream(table, bucket, seed=2).take(0, 30).tolist()
        assert first != Stream(table, bucket, seed=1).take(30, 30).tolist()
        assert first != list(range(30))


class TestBucketOrder:
    @settings(max_examples=60, deadline=None)
    @given(table=tables, batch_size=st.integers(1, 7), seed=st.integers(0, 9))
    def test_batches_take_turns_on_the_streams(self, table, batch_size, seed):
        order = order_of(table, batch_size, seed=seed, window=8)
        drawn = {bucket: [] for bucket in table.buckets}
        for number in range(40):
            assert order.drawn(number) == {
                f"{bucket.num_frames}x8x8": len(found) for bucket, found in drawn.items()
            }
            batch = order.batch(number)
            assert len(batch.numbers) == batch_size
            drawn[batch.bucket] += batch.numbers.tolist()
        for bucket, found in drawn.items():
            stream = Stream(table, bucket, seed=seed, window=8)
            assert found == (stream.take(0, len(found)).tolist() if found else [])

    def test_buckets_come_by_their_share(self):
        order = order_of(Table([1] * 40, [17] * 80))
        frames = [order.batch(number).bucket.num_frames for number in range(120)]
        assert frames[:60].count(1) == 20
        assert frames[60:].count(1) == 20
        assert frames[:60] != sorted(frames[:60])

    def test_any_batch_can_be_asked_first(self):
        table = Table([1, 17, 17], [17, 1], [17] * 4)
        forward = keys_of(order_of(table, seed=5), 30)
        fresh = order_of(table, seed=5)
        assert [fresh.batch(number).numbers.tolist() for number in reversed(range(30))] == (
            forward[::-1]
        )

    def test_nothing_to_order(self):
        with pytest.raises(SampleError, match="no sample to train on"):
            BucketOrder(one_bucket(3), [], batch_size=1)


class TestMixedOrder:
    @pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 0.9])
    def test_keeps_the_ratio_at_every_moment(self, ratio):
        table = Table([17] * 10, [1] * 6)
        images, videos = (
            BucketOrder(table, [bucket], batch_size=2, seed=1) for bucket in table.buckets
        )
        order = MixedOrder(videos, images, ratio)
        kinds = [order.batch(number).bucket.num_frames == 1 for number in range(200)]
        for length in range(1, 201):
            assert abs(sum(kinds[:length]) - ratio * length) < 1
            drawn = order.drawn(length)
            assert drawn["1x8x8"] == 2 * sum(kinds[:length])
            assert sum(drawn.values()) == 2 * length

    @pytest.mark.parametrize("ratio", [-0.5, 1.0, 2.0])
    def test_ratio_that_is_no_share(self, ratio):
        order = order_of(one_bucket(4))
        with pytest.raises(ConfigError, match="image_ratio"):
            MixedOrder(order, order, ratio)


def run(table, num_steps, *, state=None, batch_size=4, world_size=1, micro_batch_size=1):
    """Steps of a run: what all ranks see of each, and the state behind it."""
    plan = EqualBatches(
        lambda size, drawn: order_of(table, size, seed=3, window=6, drawn=drawn),
        batch_size,
        state or {},
    )
    ranks = [iter(plan.share(micro_batch_size, rank, world_size)) for rank in range(world_size)]
    rounds = batch_size // world_size // micro_batch_size
    for step in range(num_steps):
        turns = [[next(rank) for rank in ranks] for _ in range(rounds)]
        draws = [draw for turn in turns for micro_batch in turn for draw in micro_batch]
        yield draws, plan.state_after(step + 1)


class TestResume:
    """After a kill at any step, on any number of ranks, each sample is seen exactly once."""

    @settings(max_examples=80, deadline=None)
    @given(
        table=tables,
        kills=st.lists(
            st.tuples(st.integers(0, 6), st.sampled_from([(1, 1), (2, 1), (4, 1), (1, 2), (2, 2)])),
            min_size=1,
            max_size=4,
        ),
        lost=st.integers(0, 3),
    )
    def test_the_same_samples_as_without_a_kill(self, table, kills, lost):
        whole = [draw for draws, _ in run(table, 40) for draw in draws]
        seen, state = [], {}
        for num_steps, (world_size, micro_batch_size) in kills:
            layout = {"world_size": world_size, "micro_batch_size": micro_batch_size}
            steps = run(table, num_steps + lost, state=state, **layout)
            for draws, after in itertools.islice(steps, num_steps):
                seen += draws
                state = after
            list(steps)  # steps after the last save are lost with the process
        assert seen == whole[: len(seen)]
        assert [draw.position for draw in seen] == list(range(len(seen)))

    @settings(max_examples=80, deadline=None)
    @given(
        table=tables,
        parts=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=5),
    )
    def test_no_sample_twice_or_never_with_other_global_batches(self, table, parts):
        state, seen = {}, Counter()
        for num_steps, batch_size in parts:
            for draws, after in run(table, num_steps, state=state, batch_size=batch_size):
                seen.update(draw.number for draw in draws)
                state = after
        total = sum(state.get("origin", {}).get("drawn", {}).values())
        assert total <= state.get("consumed_samples", 0) == seen.total()
        for bucket in table.buckets:
            counts = {seen[number] for number in table.numbers_of(bucket)}
            assert max(counts) - min(counts) <= 1

    def test_an_epoch_that_does_not_divide_is_whole(self):
        numbers = [draw.number for draws, _ in run(one_bucket(5, 2), 7) for draw in draws]
        assert [sorted(numbers[begin : begin + 7]) for begin in range(0, 28, 7)] == [
            list(range(7))
        ] * 4

    def test_an_older_checkpoint_inside_a_batch_begins_with_the_next(self):
        ((draws, _),) = run(one_bucket(24), 1, state={"consumed_samples": 6})
        assert draws[0].position == 8


class TestRanks:
    @pytest.mark.parametrize(
        ("micro_batch_size", "world_size", "nearest"),
        [(3, 1, "3 and 6"), (1, 3, "3 and 6"), (8, 1, "8")],
    )
    def test_batch_that_does_not_divide(self, micro_batch_size, world_size, nearest):
        order = order_of(one_bucket(8), 4)
        with pytest.raises(ConfigError, match=f"nearest that are: {nearest}"):
            RankBatches(order, micro_batch_size=micro_batch_size, world_size=world_size)

    def test_one_pass_has_an_end_and_fills_up_the_last_batch(self):
        table = Table([17] * 5, [1, 17, 1])
        order = OnePass(table, table.buckets, 4)
        batches = FiniteRankBatches(order, micro_batch_size=2)
        first = list(batches)
        assert len(batches) == len(first) == 6
        assert list(batches) == first, "a second validation would see other samples"
        assert [draw.number for pair in first for draw in pair] == [
            *(5, 7, 5, 7),
            *(0, 1, 2, 3),
            *(4, 6, 0, 1),
        ]
        assert order.drawn(3) == {}
