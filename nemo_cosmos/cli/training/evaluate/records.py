"""``nemo-cosmos evaluate --compare`` and ``--repeat``: what to do with recorded evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import typer

from nemo_cosmos.cli.main import Exit
from nemo_cosmos.cli.training.evaluate.showing import show
from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.evaluation import comparison
from nemo_cosmos.evaluation.files.folders import repeat_folders
from nemo_cosmos.evaluation.record import read_record
from nemo_cosmos.progress import show_progress


def compare(first: Path, second: Path, as_json: bool) -> None:
    """Show the paired differences of two evaluations."""
    found = comparison.compare(read_record(first), read_record(second))
    table = comparison.differences_table(found)
    show([one.to_json() for one in found] if as_json else table, as_json)


def repeat(file: Path, places: Mapping[str, Path | None], as_json: bool) -> None:
    """Compute a recorded evaluation again; code 1 where a score left its interval.

    Args:
        file: the record.
        places: where inputs that have moved are now, by their name in the record.
        as_json: whether to print JSON.
    """
    from nemo_cosmos.guardrails.site import site_policy
    from nemo_cosmos.inference.trial.run import repeat_trial
    from nemo_cosmos.inference.trial.videos import WORLD
    from nemo_cosmos.tokenizing.trial import TOKENIZER, repeat_tokenizer

    moved = {name: place for name, place in places.items() if place is not None}
    before = read_record(file).at(moved)
    try:
        with show_progress("Evaluating", "videos", "json" if as_json else "people") as update:
            if before.inputs.get("kind") == WORLD:
                now = repeat_trial(before, site_policy(), update)
            elif before.inputs.get("kind") == TOKENIZER:
                now = repeat_tokenizer(before, update)
            else:
                now = repeat_folders(before, update)
    except MissingFileError as error:
        raise MissingFileError(
            f"{error} If it has moved, say where it is now: --model, --tokenizer and --data, or "
            "the two folders, beside --repeat."
        ) from error
    found = comparison.check_repetition(before, now)
    table = comparison.repetition_table(found)
    show([one.to_json() for one in found] if as_json else table, as_json)
    if not all(one.comes_out for one in found):
        raise typer.Exit(Exit.FAILED)
