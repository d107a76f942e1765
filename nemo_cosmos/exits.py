"""How a command ends, in one number, and what whoever started it does next.

Scripts of a queue, Kubernetes and the launchers here read this table alone. A rank that has a
reason writes its code down with :func:`note_exit`: what ``srun`` or torchrun return is that of the
rank that was killed last, which hides the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import Enum, IntEnum
from pathlib import Path
from types import MappingProxyType

EXIT_FILE_VARIABLE = "NEMO_COSMOS_EXIT_FILE"
"""Names the file for the code of the first rank that ends with a reason; a launcher sets it."""
WORK_SUFFIX = ".work"
"""Of the empty file beside it, which says that some process has saved work; a launcher removes a
former one."""
_has_worked = False


class Exit(IntEnum):
    """The exit codes of every command.

    75 is the ``EX_TEMPFAIL`` of BSD's ``sysexits.h``, "try again later"; its neighbours are free.
    """

    DONE = 0
    FAILED = 1  # a check that did not hold, or an error that is not the user's
    WRONG_USE = 2  # an option, file or value that a person gave
    REFUSED = 3  # a guard refused, or could not be asked
    SAVED = 75  # the time limit or the queue asked for the machines; all work is saved
    HUNG = 76  # no progress for too long
    BAD_MACHINE = 77  # a machine computes wrong numbers
    TOO_SHORT = 78  # the machines were asked for before any work was saved
    STOPPED = 130  # Ctrl-C, or SIGTERM after a save


class Then(Enum):
    """What a launcher does after an exit code."""

    NOTHING = "nothing"  # done, or the same command would end the same way
    CONTINUE = "continue"  # start the same command again, however often that was done
    RETRY = "retry"  # start it again, as often as the retries allow
    RETRY_ELSEWHERE = "retry elsewhere"  # the same, without the machine that was named


THEN: Mapping[Exit, Then] = MappingProxyType(
    {
        Exit.DONE: Then.NOTHING,
        Exit.FAILED: Then.RETRY,
        Exit.WRONG_USE: Then.NOTHING,
        Exit.REFUSED: Then.NOTHING,
        Exit.SAVED: Then.CONTINUE,
        Exit.HUNG: Then.RETRY,
        Exit.BAD_MACHINE: Then.RETRY_ELSEWHERE,
        # Once it may be a slow start; where each turn ends so, the command would start for ever.
        Exit.TOO_SHORT: Then.RETRY,
        Exit.STOPPED: Then.NOTHING,
    }
)


def what_then(code: int) -> Then:
    """What a launcher does after an exit code; after one that is not ours, such as 137, retry."""
    return THEN.get(Exit(code), Then.RETRY) if code in THEN else Then.RETRY


def codes(then: Then) -> tuple[int, ...]:
    """The exit codes that a script treats alike, for ``case $code in ...``."""
    return tuple(int(code) for code, wanted in THEN.items() if wanted is then)


def note_work() -> None:
    """Note that work was saved that the next start of the same command need not do again.

    Where a launcher waits for an exit code, processes of the command share the note.
    """
    global _has_worked
    if _has_worked:
        return
    _has_worked = True
    mark = _work_mark()
    if mark is not None:
        with suppress(OSError):  # the folder is gone
            mark.touch()


def saved_or_too_short() -> Exit:
    """The code of a command whose machines were asked for: whether starting it again leads on."""
    mark = _work_mark()
    has_worked = _has_worked or (mark is not None and mark.exists())
    return Exit.SAVED if has_worked else Exit.TOO_SHORT


def _work_mark() -> Path | None:
    path = os.environ.get(EXIT_FILE_VARIABLE)
    return Path(f"{path}{WORK_SUFFIX}") if path else None


def note_exit(code: int, hosts: Iterable[str] = ()) -> None:
    """Write an exit code down for the launcher; the first of all ranks counts.

    Does nothing where no launcher asks for it, and where the file cannot be written.

    Args:
        code: the first line of the file.
        hosts: machines to leave out from now on, a line each.
    """
    path = os.environ.get(EXIT_FILE_VARIABLE)
    if not path:
        return
    with suppress(OSError):  # there already, or the folder is gone
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.write(descriptor, "".join(f"{line}\n" for line in (int(code), *hosts)).encode())
        finally:
            os.close(descriptor)
