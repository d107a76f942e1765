"""What the modes of ``nemo-cosmos evaluate`` share: what was asked for, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from nemo_cosmos.errors import RequirementError
from nemo_cosmos.progress import Show

if TYPE_CHECKING:
    from nemo_cosmos.evaluation.gate import Requirement
    from nemo_cosmos.evaluation.statistics import Score


class Asked(NamedTuple):
    """What is computed, where it goes, and what must hold.

    Attributes:
        metrics: single metrics.
        suite: a named set of metrics.
        out: the folder of the report.
        require: requirements, as they were typed.
        check: whether to look at the inputs alone.
        as_json: whether to print JSON.
    """

    metrics: tuple[str, ...]
    suite: str | None
    out: Path | None
    require: tuple[str, ...]
    check: bool
    as_json: bool

    @property
    def requirements(self) -> list[Requirement]:
        """The requirements.

        Raises:
            ConfigError: one is not NAME>NUMBER.
        """
        from nemo_cosmos.evaluation.gate import Requirement

        return [Requirement.parse(text) for text in self.require]

    @property
    def progress(self) -> Show:
        """Who reads the progress."""
        return "json" if self.as_json else "people"


def show(content: Any, as_json: bool) -> None:
    """Print JSON, or a table for people."""
    if as_json:
        typer.echo(json.dumps(content))
        return
    from rich.console import Console

    Console().print(content)


def hold(requirements: Sequence[Requirement], scores: Mapping[str, Score]) -> None:
    """End with code 3 where a requirement does not hold.

    Raises:
        RequirementError: so it is.
    """
    from nemo_cosmos.evaluation.gate import failures

    wrong = failures(requirements, scores)
    if wrong:
        raise RequirementError(" ".join(wrong))
