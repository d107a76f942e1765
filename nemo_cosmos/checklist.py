"""What a command looks at before the work: one list, gone through before anything heavy is loaded.

A :class:`Check` looks at one thing and says what it found, or raises the error that the work would
meet minutes or hours later. A command requires its list; with ``--check`` it goes through all of
it, shows what was found, and stops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from nemo_cosmos.errors import NemoCosmosError

SAME = "(for the reason above)"


class Check(NamedTuple):
    """One thing to look at before the work.

    Attributes:
        name: what it is, in a word or two: ``output``, ``data``, ``room``.
        look: returns what was found, in a few words; raises where the work would fail.
    """

    name: str
    look: Callable[[], str]


class Finding(NamedTuple):
    """What a check found.

    Attributes:
        name: the check's name.
        is_well: whether nothing is wrong.
        text: what was found, or what is wrong.
    """

    name: str
    is_well: bool
    text: str


def require(checks: Sequence[Check]) -> None:
    """Look at everything, up to the first that is wrong.

    Raises:
        NemoCosmosError: what is wrong.
    """
    for check in checks:
        check.look()


def go_through(
    checks: Sequence[Check], explain: Callable[[OSError], NemoCosmosError | None]
) -> list[Finding]:
    """Look at everything, whatever is wrong.

    A check that fails for the reason of an earlier one does not repeat it.

    Args:
        checks: the checklist.
        explain: returns an error of ours for what the system says; None for a fault of ours.
    """
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.append(Finding(check.name, True, check.look()))
        except (NemoCosmosError, OSError) as error:
            said = original(error)
            if isinstance(said, OSError) and not isinstance(said, NemoCosmosError):
                said = explain(said) or said
            if not isinstance(said, NemoCosmosError):
                raise
            text = str(said)
            known = any(text == found.text for found in findings)
            findings.append(Finding(check.name, False, SAME if known else text))
    return findings


def original(error: BaseException) -> BaseException:
    """The error itself, without the call that Fiddle adds to what a configured class raises."""
    while hasattr(error, "proxy_base_exception"):
        error = error.proxy_base_exception
    return error
