"""What an executor promises, and what it may ask of the work that it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Given = TypeVar("Given", contravariant=True)
Made = TypeVar("Made", covariant=True)

#: A source that kills its worker, or fails, so many times is given up.
MAX_TRIES = 3


class Work(Protocol[Given, Made]):
    """A function of one item, sent to workers by pickle, and what to do where it cannot end.

    It keeps its results in the journal and never raises because of a bad item; what it does raise
    (no space left, say) ends the run.
    """

    on_stage: Callable[[str], None]
    """Called with the name of each stage before it begins."""

    def __call__(self, item: Given, /) -> Made:
        """Do everything that one item needs."""
        ...

    def give_up(self, item: Given, /, stage: str, detail: str) -> Made:
        """The outcome of an item that killed its worker :data:`MAX_TRIES` times in this stage."""
        ...


class Executor(Protocol):
    """Runs one piece of work on many items, somewhere, in any order."""

    def run(self, work: Work[Item, Outcome], items: Sequence[Item]) -> Iterator[Outcome]:
        """Yield one outcome for each item, as they are finished."""
        ...
