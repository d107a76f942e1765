"""The command line on a cluster one of whose machines is at fault: a program for a launcher.

    python faulty_machine.py launch check

Each machine takes a core of its own. On the machine that ``FAULTY_NODE`` names, other processes
take that core as well, and the stored answer for attention is another one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

NUM_HOGS = 7
HOG = "while True: pass"


def main(words: list[str]) -> None:
    node = os.environ["SLURMD_NODENAME"]
    os.sched_setaffinity(0, {int(node.removeprefix("n")) % os.cpu_count()})
    import nemo_cosmos.cli.main as cli

    with ExitStack() as stack:
        if node == os.environ.get("FAULTY_NODE"):
            _compute_wrong()
            stack.enter_context(_busy_core())
        cli.main(words)


def _compute_wrong() -> None:
    from nemo_cosmos.platform.accelerator import self_check

    self_check.STORED["attention"] *= 1.001


@contextmanager
def _busy_core() -> Iterator[None]:
    """Keep this process's core busy."""
    hogs = [subprocess.Popen([sys.executable, "-S", "-c", HOG]) for _ in range(NUM_HOGS)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
