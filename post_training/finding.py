"""What an inspection of a data set found of one fault."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.storage import atomic_path

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


class Findings(ABC):
    """What an inspection found in all.

    Attributes:
        findings: one for each fault that was looked for.
    """

    findings: tuple[Finding, ...]

    @property
    def faults(self) -> list[Finding]:
        """What is wrong."""
        return [one for one in self.findings if one.status == "found"]

    @abstractmethod
    def to_dict(self) -> JsonObject:
        """Plain data."""

    def write(self, file: str | PathLike[str]) -> None:
        """Write it as JSON."""
        with atomic_path(Path(file)) as path:
            path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
