"""One source after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from data_curation.executors.base import Item, Outcome, Work


class InlineExecutor:
    """The executor that needs nothing; a source that kills its process ends the run."""

    def run(self, work: Work[Item, Outcome], items: Sequence[Item]) -> Iterator[Outcome]:
        """Yield one outcome for each item, in order."""
        return map(work, items)
