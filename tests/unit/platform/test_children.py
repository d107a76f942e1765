"""A spawned process ends at once when its work is done, and still says what went wrong."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nemo_cosmos.platform.children import end_as_forked, end_with_parent, leave_queue_to_parent

REPOSITORY = Path(__file__).parents[3]


def work(folder: str, registers: bool, fails: bool) -> None:
    """Leave a trace of each thing that happens after the work."""
    if registers:
        end_as_forked()
    queue = multiprocessing.Queue()
    queue.put("handed over")
    threading._register_atexit(Path(folder, "taken down").touch)
    if fails:
        raise ValueError("the work failed")


@pytest.mark.parametrize("registers", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_a_spawned_process_is_not_taken_down(tmp_path, registers, fails):
    """Its interpreter would wait for threads, or end those of native libraries where they stand."""
    words = [sys.executable, __file__, str(tmp_path), str(int(registers)), str(int(fails))]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == int(fails)
    left_at_once = registers and not fails
    assert (tmp_path / "taken down").exists() == (not left_at_once)
    assert ("ValueError: the work failed" in ended.stderr) == fails


@pytest.mark.parametrize("leave", [end_with_parent, leave_queue_to_parent])
def test_a_helper_does_not_die_of_what_a_queue_tells_its_parent(leave):
    child = os.fork()
    if not child:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        leave()
        os.kill(os.getpid(), signal.SIGUSR1)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(
        target=work, args=(sys.argv[1], sys.argv[2] == "1", sys.argv[3] == "1")
    )
    process.start()
    process.join()
    sys.exit(process.exitcode)
