"""What an executor promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Executor(Protocol):
    """Runs one function on many sources, somewhere, in any order.

    The function can be pickled, keeps its results in the journal, and never raises because of a bad
    source; what it does raise (no space left, say) ends the run.
    """

    def run(self, work: Callable[[Item], Outcome], items: Sequence[Item]) -> Iterator[Outcome]:
        """Yield one outcome for each item, as they are finished."""
        ...
