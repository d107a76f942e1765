"""What an executor promises, and what it may ask of the work that it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from data_curation.clip import Resources

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Given = TypeVar("Given", contravariant=True)

#: A source that kills its worker, or fails, so many times is given up.
MAX_TRIES = 3


class Step(Protocol):
    """One stage of the work, as executors that schedule see it."""

    @property
    def name(self) -> str:
        """Said of an item that is given up in it."""
        ...

    @property
    def resources(self) -> Resources:
        """What one worker of it occupies."""
        ...


class Work(Protocol[Given, Outcome]):
    """A function of one item, sent to workers by pickle, and what to do where it cannot end.

    It keeps its results in the journal and never raises because of a bad item; what it does raise
    (no space left, say) ends the run. An executor calls it whole, or takes an item through its
    stages itself: :meth:`begin`, then :meth:`advance` with one range of stages after the other, on
    any machine, then :meth:`finish`; one that :meth:`is_finished` after :meth:`begin` is done
    already.
    """

    on_stage: Callable[[str], None]
    """Called with the name of each stage before it begins."""

    @property
    def stages(self) -> Sequence[Step]:
        """What an item passes, in order."""
        ...

    def __call__(self, item: Given, /) -> Outcome:
        """Do everything that one item needs."""
        ...

    def check_place(self, item: Given, /) -> None:
        """Called in a worker on another machine before its first item, with any of them.

        Raises:
            NemoCosmosError: it does not see there what it needs; the run ends.
        """
        ...

    def begin(self, item: Given, /) -> Outcome:
        """The outcome before the first stage, or the whole one that an earlier run left."""
        ...

    def is_finished(self, outcome: Outcome, /) -> bool:
        """Whether an earlier run left this one."""
        ...

    def advance(self, outcome: Outcome, first: int, stop: int, /) -> Outcome:
        """The outcome after the stages from ``first`` to before ``stop``."""
        ...

    def finish(self, item: Given, outcome: Outcome, /) -> Outcome:
        """Remember the outcome."""
        ...

    def give_up(self, item: Given, /, stage: str, detail: str) -> Outcome:
        """The outcome of an item that killed its worker :data:`MAX_TRIES` times in this stage."""
        ...


class Tries(Generic[Item, Outcome]):
    """Counts the workers that each item lost, and gives up one that lost :data:`MAX_TRIES`.

    Args:
        work: the work on the items.
        items: all of them, counted by index.
    """

    def __init__(self, work: Work[Item, Outcome], items: Sequence[Item]) -> None:
        self._work = work
        self._items = items
        self._lost: Counter[int] = Counter()

    def lost(self, index: int, stage: str, how: str) -> Outcome | None:
        """Count one more worker, which died in this stage in this way ("was killed by SIGSEGV").

        Returns:
            The outcome of an item that is given up; None for one to try again.
        """
        self._lost[index] += 1
        if self._lost[index] < MAX_TRIES:
            return None
        return self._work.give_up(self._items[index], stage, f"its worker {how}, {MAX_TRIES} times")


class Executor(Protocol):
    """Runs one piece of work on many items, somewhere, in any order."""

    def run(self, work: Work[Item, Outcome], items: Sequence[Item]) -> Iterator[Outcome]:
        """Yield one outcome for each item, as they are finished."""
        ...
