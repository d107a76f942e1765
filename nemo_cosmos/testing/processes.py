"""Run a function on several ranks and report what happened on each: the kit for parallel tests.

::

    def case(tp: int) -> float:                      # at the top level of a module
        ensure_model_parallel(tp=tp)
        return loss_of(build_model())

    losses = run_distributed_test(case, num_processes=2, tp=2)     # one result a rank

    with ProcessPool(2) as pool:                     # many cases, one start of the processes
        for tp in (1, 2):
            pool.run(case, tp=tp)

Importing Megatron-Core or NeMo takes seconds. The processes are forked from one server that has
imported the ``preload`` modules once, and a pool runs any number of cases, each in process groups
of its own. A rank that fails, dies or hangs ends all of them, and the error shows every rank's
traceback, or the place where it waited for the others.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import importlib.util
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

ResultT = TypeVar("ResultT")

DEFAULT_TIMEOUT_S = 300.0  # on a machine that does much else
GRACE_S = 2.0
"""How long the other ranks may take to report, once one has failed."""
MAX_LOG_BYTES = 40_000
MAX_CASES = 4
"""Cases that the same processes run. gloo's threads outlive their groups and poll; after some
dozens of groups they take the machine's whole time, so that new processes are forked by then."""
HOST = "127.0.0.1"


class DistributedTestError(AssertionError):
    """A rank failed, died or did not finish in time; the message has every rank's report."""


def run_distributed_test(
    function: Callable[..., ResultT],
    num_processes: int = 2,
    *args: object,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    preload: Sequence[str] = (),
    **kwargs: object,
) -> list[ResultT]:
    """Call a function once on each of several new processes; see :class:`ProcessPool`.

    Args:
        function: a function at the top level of a module.
        num_processes: number of ranks.
        *args: its arguments; they are pickled.
        timeout_s: time limit of all ranks together, without the start of the processes.
        preload: modules to import early; see :class:`ProcessPool`.
        **kwargs: its keyword arguments.

    Returns:
        What the function returned on each rank.

    Raises:
        DistributedTestError: a rank failed, died or did not finish in time.
    """
    with ProcessPool(num_processes, preload=preload) as pool:
        return pool.run(function, *args, timeout_s=timeout_s, **kwargs)


class ProcessPool:
    """One process a rank, as a launcher such as torchrun starts them, for many cases.

    In a case, ``torch.distributed.init_process_group()`` finds its peers through the environment,
    once (so do :func:`~nemo_cosmos.platform.ensure_model_parallel` and NeMo's strategy). Process
    groups and model parallelism that a case leaves behind are torn down after it.

    Args:
        num_processes: number of ranks.
        preload: modules that the server imports before it forks. Only what is named before the
            first pool of a program starts is imported once; later pools import for themselves.
    """

    def __init__(self, num_processes: int, *, preload: Sequence[str] = ()) -> None:
        self.num_processes = num_processes
        self.preload = tuple(preload)
        self._ranks: list[_Rank] = []
        self._num_cases = 0

    def run(
        self,
        function: Callable[..., ResultT],
        *args: object,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **kwargs: object,
    ) -> list[ResultT]:
        """Call a function on every rank.

        Args:
            function: a function at the top level of a module; every rank imports it.
            *args: its arguments; they are pickled.
            timeout_s: time limit of all ranks together.
            **kwargs: its keyword arguments.

        Returns:
            What it returned on each rank.

        Raises:
            DistributedTestError: a rank failed, died or did not finish in time. All processes are
                killed; the next call starts new ones.
        """
        import torch.distributed as dist

        if self._num_cases == MAX_CASES:
            self.close()
        if not self._ranks:
            self._start()
        self._num_cases += 1
        # The ranks meet at a store of this process, as they do at torchrun's: no port to guess. It
        # is a new one for each case, so that none finds the addresses of an earlier case's groups.
        tcp_store: Any = dist.TCPStore  # type: ignore[attr-defined]
        store = tcp_store(HOST, 0, is_master=True, wait_for_workers=False)
        case = _Case(_Reference.to(function), pickle.dumps((args, kwargs)), store.port)
        for rank in self._ranks:
            rank.connection.send_bytes(pickle.dumps(case))
        try:
            reports = self._collect(timeout_s)
        except BaseException:
            self.close()
            raise
        if all(report is not None and report.error is None for report in reports):
            return [report.result for report in reports if report is not None]
        message = self._accounts(function, reports, timeout_s)
        self.close()
        raise DistributedTestError(message)

    def close(self) -> None:
        """Kill the processes."""
        for rank in self._ranks:
            rank.process.kill()
            rank.process.join()
            rank.connection.close()
            rank.log.unlink(missing_ok=True)
        self._ranks = []
        self._num_cases = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", __name__, *self.preload])
        for rank in range(self.num_processes):
            ours, theirs = context.Pipe()
            handle, name = tempfile.mkstemp(prefix=f"rank{rank}.", suffix=".log")
            os.close(handle)
            environment = _environment(rank, self.num_processes)
            process = context.Process(
                target=_serve, args=(theirs, environment, name, list(sys.path))
            )
            process.start()
            theirs.close()
            self._ranks.append(_Rank(process, ours, Path(name)))

    def _collect(self, timeout_s: float) -> list[_Report | None]:
        """Wait for the ranks' reports; None for one that has none by the end."""
        reports: dict[int, _Report] = {}
        waiting = {rank.connection: index for index, rank in enumerate(self._ranks)}
        until_s = time.monotonic() + timeout_s
        while waiting and (left_s := until_s - time.monotonic()) > 0:
            for ready in wait(list(waiting), left_s):
                assert isinstance(ready, Connection)
                index = waiting.pop(ready)
                try:
                    reports[index] = pickle.loads(ready.recv_bytes())  # noqa: S301  # our child's
                except EOFError:
                    self._ranks[index].process.join()
                    code = self._ranks[index].process.exitcode
                    reports[index] = _Report(error=f"The process ended with exit code {code}.")
                if reports[index].error is not None:
                    until_s = min(until_s, time.monotonic() + GRACE_S)
        return [reports.get(index) for index in range(self.num_processes)]

    def _accounts(
        self, function: Callable[..., object], reports: Sequence[_Report | None], timeout_s: float
    ) -> str:
        """The report of every rank, with the stack of those that still wait."""
        for rank, report in zip(self._ranks, reports, strict=True):
            if report is None and rank.process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rank.process.pid, signal.SIGUSR1)
        time.sleep(0.3)  # while they write their stacks
        failed = any(report is not None and report.error is not None for report in reports)
        reason = "failed" if failed else f"did not finish in {timeout_s:g} s"
        lines = [f"'{function.__qualname__}' {reason} on {self.num_processes} processes."]
        for index, (rank, report) in enumerate(zip(self._ranks, reports, strict=True)):
            if report is not None and report.error is None:
                lines.append(f"--- rank {index} finished")
                continue
            what = "was still running" if report is None else "failed"
            log = rank.log.read_bytes()[-MAX_LOG_BYTES:].decode(errors="replace")
            lines += [f"--- rank {index} {what}", "" if report is None else str(report.error), log]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Reference:
    """A function by the places where another process finds it."""

    module: str
    file: str
    name: str

    @classmethod
    def to(cls, function: Callable[..., Any]) -> Self:
        file = str(Path(function.__code__.co_filename).resolve())
        return cls(function.__module__, file, function.__qualname__)

    def load(self) -> Callable[..., object]:
        """Import by name; a test module that is on no path, by its file."""
        try:
            module = importlib.import_module(self.module)
        except ModuleNotFoundError:
            spec = importlib.util.spec_from_file_location(self.module, self.file)
            assert spec is not None and spec.loader is not None
            module = sys.modules[self.module] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        found: Callable[..., Any] = getattr(module, self.name)
        return found


@dataclass(frozen=True)
class _Case:
    """What to call. The arguments may be of the function's module, so it is imported first."""

    function: _Reference
    arguments: bytes
    port: int


@dataclass(frozen=True)
class _Report:
    result: Any = None
    error: str | None = None


@dataclass(frozen=True)
class _Rank:
    process: multiprocessing.process.BaseProcess
    connection: Connection
    log: Path


def _environment(rank: int, num_processes: int) -> dict[str, str]:
    """What torchrun sets for one of the processes of a single machine."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0}
    size = {"WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
    meeting = {"MASTER_ADDR": HOST, "TORCHELASTIC_RUN_ID": "test"}
    agent = {"TORCHELASTIC_USE_AGENT_STORE": True, "OMP_NUM_THREADS": 1}
    return {name: str(value) for name, value in (place | size | meeting | agent).items()}


def _serve(connection: Connection, environment: dict[str, str], log: str, path: list[str]) -> None:
    """Run cases until the parent hangs up."""
    import torch

    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    faulthandler.enable()  # a crash in a library's own code leaves its stack in the log
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    sys.path[:] = path
    os.environ.update(environment)
    torch.set_num_threads(1)  # torch was imported before the environment said so
    with contextlib.suppress(EOFError):
        while True:
            message = connection.recv_bytes()
            connection.send_bytes(pickle.dumps(_answer(message)))
    os._exit(0)  # nothing that a hanging library registered may delay the end


def _answer(message: bytes) -> _Report:
    try:
        case: _Case = pickle.loads(message)  # noqa: S301  # our parent's
        os.environ["MASTER_PORT"] = str(case.port)
        function = case.function.load()
        args, kwargs = pickle.loads(case.arguments)  # noqa: S301  # our parent's
        result = function(*args, **kwargs)
        pickle.dumps(result)
        _tear_down()
    except BaseException:  # noqa: BLE001  # whatever it was, the parent has to know, and at once
        return _Report(error=traceback.format_exc())
    return _Report(result=result)


def _tear_down() -> None:
    """Leave no process groups behind."""
    if "megatron.core.parallel_state" in sys.modules:
        from nemo_cosmos.platform.distributed import shutdown_model_parallel

        shutdown_model_parallel()
        return
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
