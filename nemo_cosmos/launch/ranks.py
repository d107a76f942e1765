"""The ranks of one machine, for clusters that start no process for each GPU, as ``srun`` does.

A pod of Kubernetes and a node of Ray run this; it starts ``python -m nemo_cosmos ...`` once for
each device, with the variables that torchrun would set::

    python -m nemo_cosmos.launch.ranks --nodes 4 --devices 8 --meet first:29500 -- curate raw shards

Unlike torchrun it passes a signal on at once and waits as long as the ranks need to save, returns
the exit code of the rank that failed first, and begins each line with its rank, as ``srun --label``
does.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Self

from nemo_cosmos.exits import EXIT_FILE_VARIABLE, Exit
from nemo_cosmos.launch.job import COMMAND_MODULE
from nemo_cosmos.launch.jobs.record import JOB_VARIABLE
from nemo_cosmos.site import SITE_VARIABLE

MODULE = "nemo_cosmos.launch.ranks"
PORT = 29500
#: The pod's place in an indexed job of Kubernetes.
NODE_VARIABLE = "JOB_COMPLETION_INDEX"
#: How long ranks may take to end after another one has failed.
END_S = 30.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@dataclass(frozen=True)
class Place:
    """One machine among those of a job.

    Attributes:
        nodes: machines of the job.
        devices: processes of each.
        node: the number of this machine, from 0.
        meet: ``HOST:PORT`` of the first machine, where ranks meet.
    """

    nodes: int = 1
    devices: int = 1
    node: int = 0
    meet: str = f"127.0.0.1:{PORT}"

    @property
    def num_ranks(self) -> int:
        """Processes on all machines."""
        return self.nodes * self.devices

    def variables(self, local: int) -> dict[str, str]:
        """Return what torchrun would set for a process; nothing for one that is alone.

        Args:
            local: the number of the process on this machine.
        """
        if self.num_ranks == 1:
            return {}
        host, _, port = self.meet.rpartition(":")
        values = {
            "RANK": self.node * self.devices + local,
            "WORLD_SIZE": self.num_ranks,
            "LOCAL_RANK": local,
            "LOCAL_WORLD_SIZE": self.devices,
            "NODE_RANK": self.node,
            "GROUP_RANK": self.node,
            "MASTER_ADDR": host,
            "MASTER_PORT": port,
        }
        return {name: str(value) for name, value in values.items()}

    def label(self, local: int) -> str:
        """Return what each line of a process begins with, its rank as wide as the last one's."""
        if self.num_ranks == 1:
            return ""
        return f"{self.node * self.devices + local:>{len(str(self.num_ranks - 1))}}: "


class Ranks:
    """The processes of one machine, from their start to the end of the last one.

    Args:
        words: the words after ``nemo-cosmos``.
        place: the machine.
        site: words of ``configure`` that the processes see as kept; no others.
    """

    def __init__(self, words: Sequence[str], place: Place, site: Sequence[str] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nemo_cosmos_ranks_")
        self._exit_file = Path(self._folder.name) / "exit"
        kept = Path(self._folder.name) / "site.txt"
        kept.write_text("".join(f"{word}\n" for word in site), encoding="utf-8")
        shared = {
            "PYTHONUNBUFFERED": "1",  # else a pipe shows its lines late
            EXIT_FILE_VARIABLE: str(self._exit_file),
            SITE_VARIABLE: str(kept),
            JOB_VARIABLE: os.environ.get(JOB_VARIABLE, "job"),
        }
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._asked = False
        self._deadline_s: float | None = None
        self._first_code = 0
        command = [sys.executable, "-m", COMMAND_MODULE, *words]
        self._processes = []
        for local in range(place.devices):
            process = subprocess.Popen(
                command,
                env={**os.environ, **shared, **place.variables(local)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            self._processes.append(process)
            assert process.stdout is not None
            words_of = (process.stdout, place.label(local))
            threading.Thread(target=self._read, args=words_of, daemon=True).start()
        self._open = len(self._processes)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs."""
        for process in self._running():
            process.kill()
        for process in self._processes:
            process.wait()
        self._folder.cleanup()

    def lines(self, most_s: float | None = None) -> Iterator[str]:
        """Yield what the ranks print, until all have ended or the time is up.

        Args:
            most_s: the time; None waits for the end.
        """
        end_s = None if most_s is None else time.monotonic() + most_s
        while self._open or self._running():
            if end_s is not None and time.monotonic() >= end_s:
                return
            self._look()
            try:
                line = self._lines.get(timeout=0.1)
            except queue.Empty:
                continue
            if line is None:
                self._open -= 1
            else:
                yield line
        self._look()

    @property
    def code(self) -> int | None:
        """The exit code of the machine; None while a rank runs or its output is not all read."""
        if self._open or self._running():
            return None
        if self._first_code and self._exit_file.is_file():
            return int(self._exit_file.read_text(encoding="utf-8").split()[0])
        return self._first_code

    def ask(self, number: int = signal.SIGTERM) -> None:
        """Pass a signal on: the ranks save and end, and have all the time for it.

        Args:
            number: the signal.
        """
        self._asked = True
        for process in self._running():
            process.send_signal(number)

    def _running(self) -> list[subprocess.Popen[str]]:
        return [process for process in self._processes if process.poll() is None]

    def _look(self) -> None:
        """End the others after a failure: they would wait for the failed rank for ever."""
        failed = next((p.returncode for p in self._processes if p.poll()), 0)
        if failed and not self._first_code:
            self._first_code = failed if failed > 0 else 128 - failed
        if not self._first_code or not self._running():
            return
        if self._deadline_s is None:
            self._deadline_s = time.monotonic() + END_S
            if not self._asked:
                self.ask()
                self._asked = False
        elif time.monotonic() >= self._deadline_s and not self._asked:
            for process in self._running():
                process.kill()

    def _read(self, stream: IO[str], label: str) -> None:
        with stream:
            for line in stream:
                self._lines.put(label + line.rstrip("\n"))
        self._lines.put(None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the ranks of this machine.

    Args:
        arguments: the words of the command line; by default those of this process.

    Returns:
        the exit code of the rank that failed first, or 0.
    """
    place, site, words = _parsed(arguments)
    with Ranks(words, place, site) as ranks:

        def pass_on(number: int, _: FrameType | None) -> None:
            ranks.ask(number)

        before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
        try:
            for line in ranks.lines():
                print(line, flush=True)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return ranks.code or int(Exit.DONE)


def _parsed(arguments: Sequence[str] | None) -> tuple[Place, list[str], list[str]]:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--node", type=int, default=int(os.environ.get(NODE_VARIABLE, "0")))
    parser.add_argument("--meet", default=f"127.0.0.1:{PORT}", metavar="HOST:PORT")
    parser.add_argument("--site", action="append", default=[], metavar="WORD")
    parser.add_argument("words", nargs="+", help="the words after nemo-cosmos")
    given = parser.parse_args(arguments)
    place = Place(given.nodes, given.devices, given.node, given.meet)
    return place, given.site, given.words


if __name__ == "__main__":
    sys.exit(main())
