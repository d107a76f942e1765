"""One source after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from data_curation.executors.base import Item, Outcome


class InlineExecutor:
    """The executor that needs nothing."""

    def run(self, work: Callable[[Item], Outcome], items: Sequence[Item]) -> Iterator[Outcome]:
        """Yield one outcome for each item, in order."""
        return map(work, items)
