"""The position of a run in its data: what a checkpoint records, and how a run resumes from it.

A source knows the position at which the samples of this run begin. The number of optimiser steps
since then gives the present position, however far worker processes have read ahead. The state is
plain data, the same on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from torch.utils.data import Sampler

from nemo_cosmos.data.loading.loader import RankBatches, SampleDraw
from nemo_cosmos.data.order.packs import PackOrder, PackPlace, RankPacks
from nemo_cosmos.data.order.skips import BatchId, Skips
from nemo_cosmos.data.order.stream import BatchOrder
from nemo_cosmos.errors import ConfigError

State = Mapping[str, Any]
MakeOrder = Callable[[int, Mapping[str, int]], BatchOrder]
"""From the global batch size and the samples already drawn from each stream to an order."""


class BatchSource(Protocol):
    """The samples of a run from a position on."""

    def share(self, micro_batch_size: int, rank: int, world_size: int) -> Sampler[list[SampleDraw]]:
        """Return what one data-parallel rank loads."""
        ...

    def state_after(self, num_steps: int) -> dict[str, object]:
        """Return the state to save after a number of optimiser steps of this run."""
        ...

    def batch_of_step(self, num_steps: int) -> BatchId:
        """Return the batch of the last of a number of optimiser steps of this run, 1 or more."""
        ...

    def samples_of(self, batch: BatchId) -> list[int]:
        """Return the numbers of a batch's samples in the corpus."""
        ...


class EqualBatches:
    """Global batches of equal samples.

    With the batch size of the checkpoint the order continues; with another one, a new order begins
    in which each stream starts behind what was drawn from it.

    Args:
        make_order: function that makes the order for a batch size.
        batch_size: global batch size.
        state: state in the checkpoint; empty for a new run.
        skipped: batches that the run leaves out.
    """

    def __init__(
        self,
        make_order: MakeOrder,
        batch_size: int,
        state: State,
        skipped: Collection[BatchId] = (),
    ) -> None:
        self.consumed = int(state.get("consumed_samples", 0))
        origin = state.get("origin") or {"consumed_samples": 0, "drawn": {}}
        self.before, self.drawn = int(origin["consumed_samples"]), dict(origin["drawn"])
        saved_size = int(state.get("global_batch_size", batch_size))
        # Samples inside a batch, as older checkpoints may count, begin with the next batch.
        self.first = -(-(self.consumed - self.before) // saved_size)
        if saved_size != batch_size:
            self.drawn = make_order(saved_size, self.drawn).drawn(self.first)
            self.before, self.first = self.consumed, 0
        self.order = make_order(batch_size, self.drawn)
        self.skips = Skips.of(skipped, self._begin(self.first), batch_size)

    def share(self, micro_batch_size: int, rank: int, world_size: int) -> RankBatches:
        """Return what one data-parallel rank loads."""
        return RankBatches(
            self.order,
            micro_batch_size=micro_batch_size,
            rank=rank,
            world_size=world_size,
            first=self.first,
            samples_before=self.before,
            left_out=frozenset(self.first + number for number in self.skips.left_out),
        )

    def batch_of_step(self, num_steps: int) -> BatchId:
        """Return the batch of the last of a number of optimiser steps of this run."""
        number = self.first + self.skips.nth(num_steps - 1)
        return BatchId(self._begin(number), self.order.batch_size)

    def samples_of(self, batch: BatchId) -> list[int]:
        """Return the numbers of a batch's samples in the corpus."""
        number = (batch.begin - self.before) // batch.size
        return [int(sample) for sample in self.order.batch(number).numbers]

    def _begin(self, number: int) -> int:
        """Samples before a batch of the order."""
        return self.before + number * self.order.batch_size

    def state_after(self, num_steps: int) -> dict[str, object]:
        """Return the state to save after a number of optimiser steps of this run."""
        size = self.order.batch_size
        return {
            "consumed_samples": self._begin(self.first + self.skips.passed(num_steps)),
            "global_batch_size": size,
            "origin": {"consumed_samples": self.before, "drawn": self.drawn},
        }


class PackedBatches:
    """Packs of samples of different shapes.

    Args:
        order: order of the packs.
        packs_per_step: global batch size, in packs.
        state: state in the checkpoint; empty for a new run.
        skipped: batches that the run leaves out.
    """

    def __init__(
        self,
        order: PackOrder,
        packs_per_step: int,
        state: State,
        skipped: Collection[BatchId] = (),
    ) -> None:
        self.order, self.packs_per_step = order, packs_per_step
        self.start = PackPlace(*state.get("pack", ()))
        self.consumed = int(state.get("consumed_samples", 0))
        self.skips = Skips.of(skipped, self.consumed, packs_per_step)

    def share(self, micro_batch_size: int, rank: int, world_size: int) -> RankPacks:
        """Return what one data-parallel rank loads; a micro-batch is one pack.

        Raises:
            ConfigError: the micro-batch size is not 1.
        """
        if micro_batch_size != 1:
            raise ConfigError(
                f"micro_batch_size is {micro_batch_size}; with packing a micro-batch is one pack. "
                "Set it to 1, and max_tokens to what fits into memory."
            )
        return RankPacks(
            self.order,
            packs_per_step=self.packs_per_step,
            rank=rank,
            world_size=world_size,
            start=self.start,
            left_out=self.skips.left_out,
        )

    def batch_of_step(self, num_steps: int) -> BatchId:
        """Return the batch of the last of a number of optimiser steps of this run."""
        number = self.skips.nth(num_steps - 1)
        return BatchId(self.consumed + number * self.packs_per_step, self.packs_per_step)

    def samples_of(self, batch: BatchId) -> list[int]:
        """Return the numbers of a batch's samples in the corpus."""
        place = self.order.after(self.start, batch.begin - self.consumed)
        packs = self.order.step(place, batch.size).packs
        return [draw.number for pack in packs for draw in pack]

    def state_after(self, num_steps: int) -> dict[str, object]:
        """Return the state to save after a number of optimiser steps of this run."""
        num_packs = self.skips.passed(num_steps) * self.packs_per_step
        return {
            "consumed_samples": self.consumed + num_packs,  # in packs, as the trainer counts them
            "pack": list(self.order.after(self.start, num_packs)),
        }


def check_same_order(saved: State, settings: Mapping[str, Any]) -> None:
    """Refuse to resume in another order than the run began with.

    Args:
        saved: state in the checkpoint.
        settings: everything that the order depends on, by argument of the data module.

    Raises:
        ConfigError: names what differs.
    """
    before = saved.get("settings") or {}
    changed = {name for name in settings if name in before and before[name] != settings[name]}
    if not changed:
        return
    if changed == {"samples"}:
        raise ConfigError(
            "The shards are not those that this run began with: some were added, removed, written "
            "again or repaired. Samples would be seen twice or never. Put the old ones back, or "
            "start another run (log.name=...) from this one's weights."
        )
    names = sorted(changed - {"samples"})
    differences = ", ".join(f"{name} was {before[name]}, now {settings[name]}" for name in names)
    raise ConfigError(
        f"The data come in another order than this run began with: {differences}. Samples would be "
        "seen twice or never. Give the old values, or start another run (log.name=...)."
    )
