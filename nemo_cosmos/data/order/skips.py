"""Batches that a run leaves out, and how its steps count on past them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class BatchId(NamedTuple):
    """A global batch of a run, however often the run was resumed.

    Attributes:
        begin: samples, or packs, that come before it in the order of the run.
        size: its samples, or packs.
    """

    begin: int
    size: int


class Skips:
    """The numbers of batches without those that are left out.

    Args:
        left_out: numbers of batches, from the first of a source on.
    """

    def __init__(self, left_out: Iterable[int] = ()) -> None:
        self.left_out = frozenset(number for number in left_out if number >= 0)

    @classmethod
    def of(cls, batches: Iterable[BatchId], begin: int, size: int) -> Skips:
        """Find batches among those of a source; batches of another size are not in it.

        Args:
            batches: what is left out.
            begin: samples before the source's first batch.
            size: samples of each of its batches.
        """
        numbers = ((batch.begin - begin) / size for batch in batches if batch.size == size)
        return cls(int(number) for number in numbers if number.is_integer())

    def nth(self, place: int) -> int:
        """The number of the batch at a place among those that are not left out.

        Args:
            place: from 0 on.
        """
        number = place
        for left_out in sorted(self.left_out):
            if left_out <= number:
                number += 1
        return number

    def passed(self, num_steps: int) -> int:
        """How many batches lie behind a number of steps, those that were left out included."""
        return self.nth(num_steps - 1) + 1 if num_steps else 0
