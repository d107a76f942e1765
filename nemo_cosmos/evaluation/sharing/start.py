"""Start the processes that share an evaluation, or join those that ``torchrun`` started."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from nemo_cosmos.errors import ConfigError, NemoCosmosError
from nemo_cosmos.evaluation.sharing.crew import Crew, ShareDone
from nemo_cosmos.options import Range, check_value
from nemo_cosmos.platform.children import end_as_forked, end_with_parent, take_share_of_machine
from nemo_cosmos.platform.ranks import alone, num_processes
from nemo_cosmos.storage.one_run import WORK_FOLDER, claimed

MAX_WORKERS = 1024
SCORES = "scores"
_SHARES = "shares"


class Call(Protocol):
    """What every process calls to score its share; it travels to new processes by pickle."""

    def __call__(self, work: Path | None, crew: Crew | None) -> object:
        """Score the share, with the scores kept in ``work``."""
        ...


@contextmanager
def shared(
    call: Call, out: Path | None, workers: int = 1, launched: bool = False
) -> Iterator[tuple[Path | None, Crew | None]]:
    """Work in an output folder, alone or with other processes.

    Args:
        call: what other processes call to help.
        out: the folder of the report, which no other run may write to meanwhile; None for none.
        workers: how many processes score, this one among them.
        launched: whether the processes that ``torchrun`` started all call this.

    Yields:
        the folder of the scores, and the crew; None for what there is not.

    Raises:
        ConfigError: another run works in the folder, or the processes cannot share one.
    """
    check_value("workers", workers, int, Range(1, most=MAX_WORKERS))
    num_ranks = num_processes() if launched else 1
    if num_ranks > 1 and workers > 1:
        raise ConfigError(
            f"torchrun started {num_ranks} processes already; leave out --workers {workers}."
        )
    if num_ranks > 1:
        with _joined(out) as crew:
            yield crew.folder.parents[1] / SCORES, crew
        return
    with ExitStack() as stack:
        if out is not None:
            stack.enter_context(claimed(out, [_SHARES]))
        if workers == 1:
            yield (out / WORK_FOLDER / SCORES if out is not None else None), None
            return
        work = out / WORK_FOLDER if out is not None else None
        if work is None:  # the processes hand their scores over in files
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nemo-cosmos-")))
        crew = stack.enter_context(_helped(call, work, workers))
        yield work / SCORES, crew


@contextmanager
def _joined(out: Path | None) -> Iterator[Crew]:
    """This process as one of those that ``torchrun`` started.

    To all that it calls it is alone: it loads a whole model on its own GPU, and asks guards itself.
    """
    from torch.distributed import rendezvous  # type: ignore[attr-defined]

    if out is None:
        raise ConfigError(
            "Several processes hand their scores over in a folder. Give --out DIR, on a file "
            "system that all of them see."
        )
    local_rank, num_local = int(os.environ["LOCAL_RANK"]), os.environ.get("LOCAL_WORLD_SIZE", "1")
    store, rank, size = next(rendezvous("env://"))
    with ExitStack() as stack:
        if rank == 0:
            stack.enter_context(claimed(out, [_SHARES]))
            folder = _new_folder(out / WORK_FOLDER)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            store.set("nemo_cosmos/evaluate", folder.name)
        folder = out / WORK_FOLDER / _SHARES / store.get("nemo_cosmos/evaluate").decode()
        if not folder.is_dir():
            raise ConfigError(
                f"Process {rank} of {size} does not see '{folder}', which the first one made. Give "
                "--out on a file system that all machines share."
            )
        take_share_of_machine(local_rank, int(num_local))
        crew = Crew(folder, rank, size)
        with alone():
            try:
                yield crew
            except NemoCosmosError as error:
                crew.fail(error)
                raise


@contextmanager
def _helped(call: Call, work: Path, workers: int) -> Iterator[Crew]:
    """This process as the first of several that it starts itself."""
    folder = _new_folder(work)
    context = multiprocessing.get_context("spawn")
    helpers: list[BaseProcess] = []
    try:
        for rank in range(1, workers):
            crew = Crew(folder, rank, workers)
            helper: BaseProcess = context.Process(
                target=_help, args=(call, work / SCORES, crew), daemon=True
            )
            try:
                helper.start()
            except (AttributeError, TypeError, ImportError) as error:  # so pickle says no
                raise ConfigError(
                    f"What is evaluated cannot be handed to another process: {error}. Use one "
                    "process (--workers 1), or metrics and guards that are known by name."
                ) from error
            helpers.append(helper)
        yield _Starter(folder, workers, helpers)
    finally:
        for helper in helpers:
            helper.kill()
            helper.join()
        shutil.rmtree(folder, ignore_errors=True)


class _Starter(Crew):
    """The process that started the others and sees when one dies.

    Args:
        folder: where the books are kept.
        size: the number of processes.
        helpers: the others.
    """

    def __init__(self, folder: Path, size: int, helpers: list[BaseProcess]) -> None:
        super().__init__(folder, 0, size)
        self._helpers = helpers
        self._reported: set[int] = set()

    def is_alone(self) -> bool:
        """Whether all helpers have ended; one that died is reported once."""
        for number, helper in enumerate(self._helpers, 1):
            if helper.exitcode and number not in self._reported:
                self._reported.add(number)
                print(self._death(number, helper.exitcode), file=sys.stderr, flush=True)
        return not any(helper.is_alive() for helper in self._helpers)

    def _death(self, number: int, code: int) -> str:
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return (
            f"Process {number + 1} of {self.size} {cause}. The others score its videos; what it "
            "had scored is kept."
        )


def _help(call: Call, work: Path, crew: Crew) -> None:
    """What a started process does: score its share and end, with its parent at the latest."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its helpers
    end_with_parent()
    end_as_forked()
    take_share_of_machine(crew.rank, crew.size)
    try:
        call(work=work, crew=crew)
    except ShareDone:
        pass
    except NemoCosmosError as error:
        crew.fail(error)


def _new_folder(work: Path) -> Path:
    folder = work / _SHARES / uuid.uuid4().hex[:12]
    folder.mkdir(parents=True)
    return folder
