"""Run the fifteen checks of a first run on a GPU, within nine minutes on one H200.

From the repository's root, with torch, Megatron-Core and, for the trainer, NeMo at hand::

    PYTHONPATH=$PWD python3 tests/gpu/first_run.py --output first_run.jsonl

Prints a JSON line for each check as it ends (name, outcome, seconds, what was expected, what was
found), then a table. The exit code is 1 if any check failed. ``--device cpu`` runs the same checks
at nano size; ``--only NAME`` runs some.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SKIPPED, PASSED, FAILED = "skipped", "passed", "failed"
BUDGET_S = 540
"""A check begins only if it can end within this after the start."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the checks; return the exit code."""
    options = _options(words)
    lines = []
    start = time.monotonic()
    for name, limit_s, run in _checks(options):
        late = time.monotonic() - start + limit_s > options.budget_s
        line = outcome(name, _too_late if late else run)
        lines.append(line)
        text = json.dumps(line)
        print(text, flush=True)
        if options.output is not None:
            with options.output.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
    print(table(lines))
    return int(any(line["outcome"] == FAILED for line in lines))


def outcome(name: str, run: Callable[[], tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Run one check whatever it raises, and describe what happened.

    Args:
        name: the check's name.
        run: returns what was expected and what was found.
    """
    start = time.perf_counter()
    line: dict[str, Any] = {"check": name, "outcome": PASSED}
    try:
        line["expected"], line["found"] = run()
    except Exception as error:  # noqa: BLE001 - the next check must run
        is_skip = type(error).__name__ == "Skipped"
        line["outcome"] = SKIPPED if is_skip else FAILED
        line["reason"] = " ".join(f"{type(error).__name__}: {error}".split())[:1500]
        if not is_skip:
            line["trace"] = traceback.format_exc(limit=-4)[-1500:]
    line["seconds"] = round(time.perf_counter() - start, 2)
    return line


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The outcomes, a line each, and their sum."""
    rows = [
        f"{number:3} {line['outcome']:8} {line['seconds']:7.1f} s  {line['check']}"
        + (f": {line['reason'][:120]}" if "reason" in line else "")
        for number, line in enumerate(lines, 1)
    ]
    counts = {
        word: sum(line["outcome"] == word for line in lines) for word in (PASSED, FAILED, SKIPPED)
    }
    total_s = sum(line["seconds"] for line in lines)
    rows.append(
        ", ".join(f"{count} {word}" for word, count in counts.items()) + f" in {total_s:.0f} s"
    )
    return "\n".join(rows)


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--output", type=Path, help="a file for the JSON lines, too")
    parser.add_argument("--only", action="append", help="name of a check; may be repeated")
    parser.add_argument("--budget-s", type=float, default=BUDGET_S)
    return parser.parse_args(words)


def _checks(options: argparse.Namespace) -> list[tuple[str, int, Callable[[], Any]]]:
    """The checks to run; a package that does not import fails as a check of its own."""
    try:
        import torch

        from nemo_cosmos.platform import install_cpu_backend

        install_cpu_backend()
        from nemo_cosmos.testing.first_run import CHECKS

        device = torch.device(options.device)
        if device.type == "cuda":
            torch.zeros(1, device=device)
    except Exception as error:  # noqa: BLE001 - reported like any other
        failure = error

        def imports() -> Any:
            raise failure

        return [("imports", 0, imports)]

    def runner(check: Any) -> Callable[[], Any]:
        return lambda: (check.expected, check.look(device))

    wanted = [each for each in CHECKS if not options.only or each.name in options.only]
    return [(each.name, each.limit_s, runner(each)) for each in wanted]


def _too_late() -> Any:
    raise Skipped("there was no time left for it")


class Skipped(Exception):  # noqa: N818 - nothing went wrong
    """A check was left out."""


if __name__ == "__main__":
    sys.exit(main())
