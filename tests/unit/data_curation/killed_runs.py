"""Kills curation at given places; a program of its own (see test_survive).

Arguments: the input, then for each run its output folder, a function such as
``data_curation.journal:Journal.record``, and which call of it is the last thing that happens. Each
run is a fork of this process, which has imported everything and started no thread. It prints how
each ended.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

from curation_workers import curate_command

# Imported once, and not in each run.
importlib.import_module("nemo_cosmos.cli.data.curate")
importlib.import_module("data_curation.pipeline")
importlib.import_module("nemo_cosmos.perception.encoders")
importlib.import_module("nemo_cosmos.data.shards.writer")


def kill_at(place: str, count: int) -> None:
    """Make the ``count``-th call of a function kill the process."""
    module, _, dotted = place.partition(":")
    *parents, name = dotted.split(".")
    holder = reduce(getattr, parents, importlib.import_module(module))
    setattr(holder, name, dying(getattr(holder, name), count))


def dying(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    calls = iter(range(1, count + 1))

    def call(*arguments: Any, **named: Any) -> Any:
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)

    return call


if __name__ == "__main__":
    raw, runs = Path(sys.argv[1]), sys.argv[2:]
    for output, place, number in zip(runs[::3], runs[1::3], runs[2::3], strict=True):
        child = os.fork()
        if child == 0:
            kill_at(place, int(number))
            curate_command(raw, Path(output))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
