"""Which packs come when: a pure function of the seed and the place in the order.

The samples come in the order of one stream (:class:`~nemo_cosmos.data.order.stream.Stream`),
whatever their shapes. Each group of consecutive samples (``PackConfig.window`` of them) is packed,
and the group's packs are shuffled. The place where a run stopped is the group and how many of its
packs are used. It depends neither on the ranks nor on the number of packs in a step, so both may
change when the run resumes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from nemo_cosmos.data.loading.loader import SampleDraw
from nemo_cosmos.data.order.packing import PackConfig, balance, first_fit_decreasing
from nemo_cosmos.data.order.stream import Numbers, Stream
from nemo_cosmos.errors import ConfigError

LengthsOf = Callable[[Numbers], Numbers]
"""Numbers of samples to their lengths in tokens."""


class PackPlace(NamedTuple):
    """A place between two packs.

    Attributes:
        group: number of the group.
        pack: number of its packs before the place.
    """

    group: int = 0
    pack: int = 0


class PackGroup(NamedTuple):
    """The packs of one group of consecutive samples.

    Attributes:
        packs: the samples of each pack.
        costs: the cost of each pack.
    """

    packs: list[list[SampleDraw]]
    costs: list[float]


class PackOrder:
    """Endless packs of a stream of samples.

    Args:
        stream: the samples in their order.
        lengths_of: function from samples to their lengths.
        config: settings of the packing.
    """

    def __init__(self, stream: Stream, lengths_of: LengthsOf, config: PackConfig) -> None:
        self.stream, self.lengths_of, self.config = stream, lengths_of, config
        self.group = lru_cache(maxsize=2)(self._pack)
        self._num_packs: dict[int, int] = {}

    def after(self, place: PackPlace, num_packs: int) -> PackPlace:
        """Return the place some packs later."""
        group, pack = place.group, place.pack + num_packs
        while pack >= (size := self._size(group)):
            group, pack = group + 1, pack - size
        return PackPlace(group, pack)

    def step(self, place: PackPlace, num_packs: int) -> PackGroup:
        """Return the packs from a place on, across the ends of groups."""
        packs: list[list[SampleDraw]] = []
        costs: list[float] = []
        while len(packs) < num_packs:
            group = self.group(place.group)
            stop = place.pack + num_packs - len(packs)
            packs += group.packs[place.pack : stop]
            costs += group.costs[place.pack : stop]
            place = PackPlace(place.group + 1)
        return PackGroup(packs, costs)

    def _pack(self, number: int) -> PackGroup:
        config = self.config
        begin = number * config.window
        samples = self.stream.take(begin, config.window)
        lengths = self.lengths_of(samples)
        packed = first_fit_decreasing(lengths, config.max_tokens)
        self._num_packs[number] = len(packed)
        order = np.random.default_rng([self.stream.seed, number]).permutation(len(packed))
        cost = config.linear_cost * lengths + config.quadratic_cost * lengths.astype(float) ** 2
        return PackGroup(
            [
                [
                    SampleDraw(int(samples[item]), self.stream.bucket, begin + int(item))
                    for item in packed[which]
                ]
                for which in order
            ],
            [float(cost[packed[which]].sum()) for which in order],
        )

    def _size(self, group: int) -> int:
        if group not in self._num_packs:
            self.group(group)
        return self._num_packs[group]


class RankPacks(Sampler[list[SampleDraw]]):
    """The packs of one rank: a batch sampler for ``torch.utils.data.DataLoader``.

    Every step's packs are shared among the ranks so that all have about equal work.

    Args:
        order: order of the packs.
        packs_per_step: packs of a step on all ranks together.
        rank: data-parallel rank.
        world_size: number of data-parallel ranks.
        start: place to begin at.
        left_out: steps, counted from there, whose packs are left out.

    Raises:
        ConfigError: the packs of a step do not divide among the ranks.
    """

    def __init__(
        self,
        order: PackOrder,
        *,
        packs_per_step: int,
        rank: int = 0,
        world_size: int = 1,
        start: PackPlace | None = None,
        left_out: frozenset[int] = frozenset(),
    ) -> None:
        self.left_out = left_out
        self.order, self.packs_per_step = order, packs_per_step
        self.rank, self.world_size = rank, world_size
        self.start = start or PackPlace()
        if packs_per_step % world_size:
            raise ConfigError(
                f"{packs_per_step} packs a step (global_batch_size) cannot be shared equally among "
                f"{world_size} data-parallel ranks. Choose a multiple of {world_size}."
            )

    def __iter__(self) -> Iterator[list[SampleDraw]]:
        place = self.start
        for number in itertools.count():
            if number not in self.left_out:
                step = self.order.step(place, self.packs_per_step)
                share = balance(np.array(step.costs), self.world_size)[self.rank]
                for which in share:
                    yield step.packs[which]
            place = self.order.after(place, self.packs_per_step)
