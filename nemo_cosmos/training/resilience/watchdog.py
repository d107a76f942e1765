"""A thread that ends this process when its main thread makes no progress for too long."""

from __future__ import annotations

import faulthandler
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nemo_cosmos.exits import Exit, note_exit

STACKS_FOLDER = "stacks"
GRACE_S = 10.0
"""Ranks notice a hang within a step of each other. The first to end would take the others along."""
PY_SPY_S = 20.0
MOST_BETWEEN_LOOKS_S = 5.0


class Watchdog:
    """Writes the stacks of all threads and ends the process, unless :meth:`beat` is called in time.

    Stacks go to ``<run>/stacks/`` and to standard error; where py-spy is installed and may look at
    the process, with the frames of native code. A process whose thread cannot run either, as some
    library holds the interpreter's lock, is ended by ``faulthandler``, with its stacks and code 1.

    Args:
        folder: the run's folder.
        rank: the number of this process.
        leave: what ends the process.
        grace_s: how long other ranks are given to write their stacks.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        leave: Callable[[int], object] = os._exit,
        grace_s: float = GRACE_S,
    ) -> None:
        self.folder, self.rank = folder, rank
        self._leave, self._grace_s = leave, grace_s
        self._limit_s = self._beaten_s = 0.0
        self._what = ""
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def beat(self, what: str, limit_s: float) -> None:
        """Begin something new.

        Args:
            what: what it is, for the report.
            limit_s: how long it may take; 0 for as long as it likes.
        """
        self._beaten_s, self._what, self._limit_s = time.monotonic(), what, limit_s

    def start(self) -> None:
        """Begin to watch."""
        if self._thread is None:
            self._stopped.clear()
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopped.set()
            if thread is not threading.current_thread():
                thread.join()

    def _watch(self) -> None:
        try:
            while not self._stopped.wait(min(self._limit_s / 10 or 1.0, MOST_BETWEEN_LOOKS_S)):
                limit_s, passed_s = self._limit_s, time.monotonic() - self._beaten_s
                if limit_s and passed_s > limit_s:
                    self._end(passed_s)
                    return
                self._rely_on_faulthandler(limit_s)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _rely_on_faulthandler(self, limit_s: float) -> None:
        """Arm a timer that needs no Python; each look puts it off."""
        if limit_s and sys.__stderr__ is not None:
            later_s = limit_s + self._grace_s + PY_SPY_S + 2 * MOST_BETWEEN_LOOKS_S
            with suppress(ValueError, RuntimeError):  # standard error without a descriptor
                faulthandler.dump_traceback_later(later_s, exit=True, file=sys.__stderr__)

    def _end(self, passed_s: float) -> None:
        report = (
            f"Rank {self.rank} made no progress for {passed_s:.0f} s, in {self._what}. Its stacks "
            f"follow; the run ends with code {int(Exit.HUNG)}, to be started again.\n"
        )
        note_exit(Exit.HUNG)
        for write in (self._to_file, self._to_log):
            with suppress(OSError, ValueError):  # a full disk must not keep the process alive
                write(report)
        time.sleep(self._grace_s)
        self._leave(Exit.HUNG)

    def _to_file(self, report: str) -> None:
        folder = self.folder / STACKS_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-rank{self.rank:05d}.txt"
        with (folder / name).open("w", encoding="utf-8") as file:
            file.write(report)
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
            file.write(native_stacks())

    def _to_log(self, report: str) -> None:
        stream = sys.__stderr__
        if stream is not None:
            stream.write(report)
            stream.flush()
            faulthandler.dump_traceback(stream, all_threads=True)


def native_stacks() -> str:
    """What py-spy sees of this process; empty without it, or where it may not look."""
    program = shutil.which("py-spy") or str(Path(sys.executable).with_name("py-spy"))
    command = [program, "dump", "--native", "--pid", str(os.getpid())]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=PY_SPY_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f"\nWith native frames (py-spy):\n{ended.stdout}" if ended.returncode == 0 else ""
