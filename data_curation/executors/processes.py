"""Workers in processes of their own: one that dies is replaced, and the others continue.

Each worker holds one source at a time, so that the source of a dead worker is known. A worker that
is killed from outside (out of memory, by a person) costs its source one try, no more.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import psutil

from data_curation.executors.base import Item, Outcome, Tries, Work
from nemo_cosmos.errors import ConfigError, NemoCosmosError
from nemo_cosmos.platform.children import end_with_parent

#: Seconds between two looks at the memory of the workers.
_POLL_S = 0.5


class ProcessExecutor:
    """Spawned processes on this machine.

    Args:
        num_workers: number of processes.
        max_memory_gb: a worker that takes more is killed, which counts as a try of its source;
            0 sets no limit.

    Raises:
        ConfigError: there is no worker.
    """

    def __init__(self, num_workers: int, max_memory_gb: float = 0.0) -> None:
        if num_workers < 1:
            raise ConfigError(f"{num_workers} workers do nothing; expected 1 or more.")
        self.num_workers = num_workers
        self.max_memory_gb = max_memory_gb

    def run(self, work: Work[Item, Outcome], items: Sequence[Item]) -> Iterator[Outcome]:
        """Yield one outcome for each item, as they are finished.

        Raises:
            NemoCosmosError: workers die before they can take any source.
        """
        waiting = deque(range(len(items)))
        tries = Tries(work, items)
        crew: list[_Worker] = []
        try:
            while waiting or any(worker.item is not None for worker in crew):
                num_wanted = min(self.num_workers, len(waiting) + sum(w.busy for w in crew))
                crew += [_Worker.start(work) for _ in range(num_wanted - len(crew))]
                for worker in crew:
                    if waiting and worker.ready and worker.item is None:
                        worker.give(waiting.popleft(), items)
                self._wait(crew)
                for worker in list(crew):
                    yield from worker.outcomes()
                    if worker.gone:
                        crew.remove(worker)
                        index = worker.item
                        if index is None:
                            worker.check_started()
                            continue
                        given_up = tries.lost(index, worker.stage, worker.cause())
                        if given_up is None:
                            waiting.append(index)
                        else:
                            yield given_up
        finally:
            for worker in crew:
                worker.stop()

    def _wait(self, crew: Sequence[_Worker]) -> None:
        """Until something happens; workers that take too much memory are killed."""
        wait([part for w in crew for part in (w.connection, w.process.sentinel)], _POLL_S)
        for worker in crew if self.max_memory_gb else ():
            worker.limit(self.max_memory_gb)


@dataclass
class _Worker:
    """One process, as its parent sees it."""

    process: SpawnProcess
    connection: Connection
    ready: bool = False
    gone: bool = False
    item: int | None = None
    stage: str = ""
    too_large: str = ""

    @classmethod
    def start(cls, work: Any) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    @property
    def busy(self) -> bool:
        return self.item is not None

    def give(self, index: int, items: Sequence[object]) -> None:
        self.item, self.stage = index, ""
        with contextlib.suppress(OSError):  # it has died; the caller finds out
            self.connection.send(items[index])

    def outcomes(self) -> Iterator[Any]:
        """What it has finished since the last call."""
        while self.connection.poll():
            try:
                kind, content = self.connection.recv()
            except (EOFError, OSError):  # only a process that has ended closes its side
                self.gone = True
                self.process.join()
                return
            if kind == "ready":
                self.ready = True
            elif kind == "stage":
                self.stage = content
            elif kind == "raised":
                raise content
            else:
                self.item = None
                yield content

    def limit(self, max_memory_gb: float) -> None:
        try:
            used_gb = psutil.Process(self.process.pid).memory_info().rss / 2**30
        except psutil.NoSuchProcess:
            return
        if used_gb > max_memory_gb:
            self.too_large = f"took more than {max_memory_gb:g} GiB of memory"
            self.process.kill()

    def cause(self) -> str:
        """Why it died, in words."""
        code = self.process.exitcode or 0
        return self.too_large or (
            f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        )

    def check_started(self) -> None:
        if not self.ready:
            raise NemoCosmosError(
                f"A worker died before it took any source (exit code {self.process.exitcode}). "
                "Its own message stands above; try '--executor inline' to see more."
            )

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection, work: Any) -> None:
    """What a worker does: take a source, work on it, hand back the outcome, until it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    end_with_parent()
    work.on_stage = lambda stage: connection.send(("stage", stage))
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent was killed
        connection.send(("ready", None))
        while True:
            item = connection.recv()
            try:
                outcome = work(item)
            except BrokenPipeError:
                return
            except Exception as error:  # noqa: BLE001  raised again in the parent
                connection.send(("raised", error))
            else:
                connection.send(("done", outcome))
