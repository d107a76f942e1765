"""What an inspection of a data set found of one fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "found", "ask"]
"""Looked for and absent; present; or not to be seen in the data, so that somebody must say."""


@dataclass(frozen=True)
class Finding:
    """What was found of one fault.

    Attributes:
        fault: its name.
        status: ``ok``, ``found`` or ``ask``.
        about: the numbers that it is about.
        measured: what the data show.
        fix: what to do, or to say; empty where nothing is wrong.
    """

    fault: str
    status: Status
    about: str
    measured: str
    fix: str = ""
