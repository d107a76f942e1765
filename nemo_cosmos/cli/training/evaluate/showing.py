"""What the modes of ``nemo-cosmos evaluate`` share: what was asked for, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from nemo_cosmos.errors import RequirementError
from nemo_cosmos.platform.ranks import is_first_process
from nemo_cosmos.progress import Show

if TYPE_CHECKING:
    from rich.table import Table

    from nemo_cosmos.evaluation.gate import Requirement
    from nemo_cosmos.evaluation.scoring import Evaluation
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
        workers: how many processes score.
        training: the run whose curves the report shows.
    """

    metrics: tuple[str, ...]
    suite: str | None
    out: Path | None
    require: tuple[str, ...]
    check: bool
    as_json: bool
    workers: int = 1
    training: Path | None = None

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
        """Who reads the progress; of several launched processes the first shows it."""
        if not is_first_process():
            return "nothing"
        return "json" if self.as_json else "people"


@contextmanager
def first_reports() -> Iterator[None]:
    """End the block quietly in all launched processes but the first, which reports for all."""
    from nemo_cosmos.evaluation.sharing import ShareDone

    with suppress(ShareDone):
        yield


def show(content: Any, as_json: bool) -> None:
    """Print JSON, or a table for people."""
    if as_json:
        typer.echo(json.dumps(content))
        return
    from rich.console import Console

    Console().print(content)


def show_scores(
    evaluation: Evaluation,
    record: Mapping[str, Any],
    table: Callable[[Evaluation], Table],
    as_json: bool,
) -> None:
    """Print what came out, and what has no score and why.

    Args:
        evaluation: the scores.
        record: the content of ``evaluation.json``.
        table: makes the table for people.
        as_json: whether to print JSON.
    """
    from nemo_cosmos.evaluation.report import left_out

    show(record if as_json else table(evaluation), as_json)
    if not as_json and (lines := left_out(evaluation)):
        typer.echo(lines)


def hold(requirements: Sequence[Requirement], scores: Mapping[str, Score]) -> None:
    """End with code 3 where a requirement does not hold.

    Raises:
        RequirementError: so it is.
    """
    from nemo_cosmos.evaluation.gate import failures

    wrong = failures(requirements, scores)
    if wrong:
        raise RequirementError(" ".join(wrong))
