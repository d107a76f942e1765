"""Results that several metrics ask for of the same video."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class LastResults(Generic[Result]):
    """Keeps the results of the questions that were asked last.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._results: OrderedDict[str, Result] = OrderedDict()

    def __len__(self) -> int:
        return len(self._results)

    def get(self, about: Iterable[bytes], find: Callable[[], Result]) -> Result:
        """Return the result of a question, found now unless it is kept.

        Args:
            about: all that the result depends on.
            find: finds it.
        """
        digest = hashlib.sha256()
        for part in about:
            digest.update(part)
        key = digest.hexdigest()
        if key not in self._results:
            self._results[key] = find()
        self._results.move_to_end(key)
        while len(self._results) > self._most:
            self._results.popitem(last=False)
        return self._results[key]
