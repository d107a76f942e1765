"""Several processes share the videos of one evaluation: each takes what nobody has taken yet.

They keep their books in a folder that all of them see: ``TASK.taken`` can be made once only, and
``TASK.done`` holds why videos were refused. Scores go to the journal. So there is no port and no
collective: a process may join late, be slow, or die.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nemo_cosmos import errors
from nemo_cosmos.errors import NemoCosmosError
from nemo_cosmos.storage import atomic_path

POLL_S = 0.1
"""Seconds between two looks at what the others have finished."""
_FAILURE = "failure.json"


class ShareDone(Exception):  # noqa: N818  what happened, not what went wrong
    """This process has scored its share; the first one gathers."""


class Crew:
    """This process as one of several.

    Args:
        folder: where the books are kept, made for this run.
        rank: the number of this process; 0 gathers.
        size: the number of processes.
    """

    def __init__(self, folder: Path, rank: int, size: int) -> None:
        self.folder = folder
        self.rank = rank
        self.size = size

    @property
    def is_first(self) -> bool:
        """Whether this process gathers and reports."""
        return self.rank == 0

    def take(self, task: str) -> bool:
        """Take a task, unless another process has.

        Args:
            task: its name, the same in all processes.

        Raises:
            NemoCosmosError: another process ended with an error.
        """
        self._raise_failure()
        try:
            with (self.folder / f"{task}.taken").open("x", encoding="utf-8") as file:
                file.write(str(self.rank))
        except FileExistsError:
            return False
        return True

    def finish(self, task: str, refused: Mapping[str, NemoCosmosError]) -> None:
        """Say that a task is finished, after its scores were kept.

        Args:
            task: its name.
            refused: the errors of its videos that have no score, by name.
        """
        plain = {name: _as_json(error) for name, error in refused.items()}
        self._write(self._done(task), plain)

    def is_finished(self, task: str) -> bool:
        """Whether someone has finished a task."""
        return self._done(task).exists()

    def refused(self, task: str) -> dict[str, NemoCosmosError]:
        """The errors of a finished task's videos that have no score."""
        plain = json.loads(self._done(task).read_text(encoding="utf-8"))
        return {name: _from_json(error) for name, error in plain.items()}

    def wait(self, task: str, on_wait: Callable[[], None]) -> bool:
        """Wait until someone has finished a task.

        Args:
            task: its name.
            on_wait: called again and again.

        Returns:
            False where whoever took it has died.

        Raises:
            NemoCosmosError: another process ended with an error.
        """
        while not self.is_finished(task):
            self._raise_failure()
            if self.is_alone():
                return self.is_finished(task)
            on_wait()
            time.sleep(POLL_S)
        return True

    def is_alone(self) -> bool:
        """Whether no other process works any more; who started them may know more."""
        return False

    def fail(self, error: NemoCosmosError) -> None:
        """Tell the others that this process ends with an error."""
        self._write(self.folder / _FAILURE, _as_json(error))

    def _raise_failure(self) -> None:
        file = self.folder / _FAILURE
        if file.exists():
            raise _from_json(json.loads(file.read_text(encoding="utf-8")))

    def _done(self, task: str) -> Path:
        return self.folder / f"{task}.done"

    def _write(self, file: Path, content: object) -> None:
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")


def _as_json(error: NemoCosmosError) -> list[Any]:
    """The nearest class that every process knows, and what it is made of."""
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__]
    violations = [error.violations] if isinstance(error, errors.GuardrailError) else []
    return [kinds[0], str(error), *violations]


def _from_json(plain: list[Any]) -> NemoCosmosError:
    kind, message, *violations = plain
    pairs = [[(guard, category) for guard, category in found] for found in violations]
    found: NemoCosmosError = getattr(errors, kind)(message, *pairs)
    return found
