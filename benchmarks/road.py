"""Roads that a benchmark walks: parts of several commands each, of which finished ones are kept.

Used by the benchmarks that train before they measure.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from nemo_cosmos.quickstart.runner import Record, Step, run_steps

Line = list[str]
Parts = Mapping[str, Sequence[Line]]


def parser_of(page: str, numbers: Mapping[str, int]) -> argparse.ArgumentParser:
    """The options that all roads have.

    Args:
        page: what the program is for.
        numbers: the defaults of its whole numbers, by the names of their options.
    """
    parser = argparse.ArgumentParser(description=page.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for everything")
    parser.add_argument("--from", dest="tokenizer", help="tokenizer to begin with")
    for name, number in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    return parser


def walk(out: Path, parts: Parts, *last: Step) -> list[Record]:
    """Walk a road; a part whose commands, and all before them, are as they were is kept.

    Args:
        out: folder for everything.
        parts: the commands of each part, as words after ``nemo-cosmos``.
        last: parts behind those that are no commands.
    """
    out.mkdir(parents=True, exist_ok=True)
    steps = [
        Step(name, name, {"commands": [*lines]}, partial(run_lines, lines))
        for name, lines in parts.items()
    ]
    return run_steps(out, [*steps, *last], announce)


def durations(records: Sequence[Record]) -> dict[str, object]:
    """What each part took, and all of them."""
    seconds = {record.name: record.duration_s for record in records}
    return {"seconds": seconds, "total_s": round(sum(seconds.values()))}


def run_lines(lines: Sequence[Line]) -> Mapping[str, object]:
    """Run commands one after another; the first that fails ends the program with its code."""
    for line in lines:
        print(f"nemo-cosmos {shlex.join(line)}", file=sys.stderr, flush=True)
        process = subprocess.Popen([sys.executable, "-m", "nemo_cosmos", *line], stdout=sys.stderr)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            code = process.wait()  # it was interrupted, too, and saves what it has
        if code:
            sys.exit(code)
    return {}


def announce(number: int, count: int, step: Step, is_reused: bool) -> None:
    """Say which part runs."""
    print(f"[{number}/{count}] {step.title}{' (kept)' if is_reused else ''}", file=sys.stderr)
