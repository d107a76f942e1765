"""Which library computes a class of problems on this CPU: measured once, then read from the cache.

The choice belongs to a processor, a version of torch and a number of threads, and is kept in the
user's cache folder, so that all ranks, workers and later runs on such a machine compute the same
bits. Where it cannot be kept, it is torch's own library. ``NEMO_COSMOS_KERNELS`` set to ``torch``
or ``onednn`` measures nothing.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from nemo_cosmos.cache import cache_dir
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform.dependencies import has

VARIABLE = "NEMO_COSMOS_KERNELS"
MEASURED, TORCH, ONEDNN = "measured", "torch", "onednn"
_REPEATS = 9
# What oneDNN must gain: less is within the noise, and a tie is torch's.
_MARGIN = 0.9


class Timing(NamedTuple):
    """What one class of problems takes.

    Attributes:
        torch_ms: by torch's own library, median.
        onednn_ms: by oneDNN, median.
    """

    torch_ms: float
    onednn_ms: float

    @property
    def library(self) -> str:
        """The faster library; torch's own on a tie."""
        return ONEDNN if self.onednn_ms < _MARGIN * self.torch_ms else TORCH


Contest = tuple[Callable[[], object], Callable[[], object]]
"""The same problem by torch's own library and by oneDNN."""


def setting() -> str:
    """Return what ``NEMO_COSMOS_KERNELS`` says: ``measured`` (the default), or a library.

    Raises:
        ConfigError: it says something else.
    """
    chosen = os.environ.get(VARIABLE) or MEASURED
    if chosen not in (MEASURED, TORCH, ONEDNN):
        raise ConfigError(
            f"{VARIABLE}={chosen} is unknown. Use '{MEASURED}', '{TORCH}' or '{ONEDNN}'."
        )
    return chosen


def library_for(problem: str, contests: Callable[[], Mapping[str, Contest]]) -> str:
    """Return the library that computes a class of problems: ``torch`` or ``onednn``.

    Args:
        problem: the class, one of the contests' names.
        contests: makes all classes' contests, for a machine that has not been measured yet.
    """
    return _library_for(problem, contests, os.environ.get(VARIABLE), torch.get_num_threads())


@functools.cache
def _library_for(
    problem: str,
    contests: Callable[[], Mapping[str, Contest]],
    _setting: str | None,
    num_threads: int,
) -> str:
    """As :func:`library_for`, which every large product calls, so that it must take no time."""
    chosen = setting()
    if not torch.backends.mkldnn.is_available():
        return TORCH
    if chosen != MEASURED:
        return chosen
    timing = timings(num_threads, contests, cache_dir()).get(problem)
    return TORCH if timing is None else timing.library


@functools.cache
def timings(
    num_threads: int, contests: Callable[[], Mapping[str, Contest]], folder: Path
) -> dict[str, Timing]:
    """Read what was measured on such a machine, or measure; nothing where it cannot be kept.

    One process measures; others that start meanwhile wait for it.

    Args:
        num_threads: threads that torch uses.
        contests: as for :func:`library_for`.
        folder: the user's cache folder.
    """
    path = folder / "kernels" / f"{_machine_key(num_threads)}.json"
    if (known := _read(path)) is not None:
        return known
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (known := _read(path)) is not None:
                return known
            measured = _in_own_thread(lambda: _measure(num_threads, contests()))
            _write(path, num_threads, measured)
    except OSError:
        return {}
    return measured


@functools.cache
def compiles() -> bool:
    """Whether kernels can be compiled for a GPU: Triton builds their launchers with C."""
    named = os.environ.get("CC")
    compilers = (named,) if named else ("cc", "gcc", "clang")
    return has("triton") and any(shutil.which(name) for name in compilers)


def processor() -> str:
    """The processor's name and its widest vector instructions."""
    known = torch.cpu.get_capabilities()
    widest = next(
        (name for name in ("amx_tile", "avx512_f", "avx2", "sve", "neon") if known.get(name)), ""
    )
    return f"{known.get('cpu_name') or known.get('architecture', 'CPU')} {widest}".strip()


def _machine_key(num_threads: int) -> str:
    features = {k: v for k, v in torch.cpu.get_capabilities().items() if not k.startswith("num_")}
    text = json.dumps([features, torch.__version__, num_threads], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, Timing] | None:
    """What a file says; None where it is missing or damaged, and is measured again."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["timings"]
        return {name: Timing(float(a), float(b)) for name, (a, b) in rows.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _write(path: Path, num_threads: int, measured: Mapping[str, Timing]) -> None:
    content = {
        "processor": processor(),
        "torch": torch.__version__,
        "threads": num_threads,
        "timings": measured,
    }
    # Not by storage's writer: storage stands beside this room.
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _measure(num_threads: int, contests: Mapping[str, Contest]) -> dict[str, Timing]:
    """Time each contest's sides in turns, so that what else the machine does meets both."""
    # The time of one thread leaves out what other processes take of its core.
    clock = time.thread_time if num_threads == 1 else time.perf_counter
    found = {}
    for name, sides in contests.items():
        spent: tuple[list[float], list[float]] = ([], [])
        for side in sides:
            side()  # the first call allocates and compiles
        for _ in range(_REPEATS):
            for side, times in zip(sides, spent, strict=True):
                start = clock()
                side()
                times.append((clock() - start) * 1e3)
        found[name] = Timing(*(round(statistics.median(times), 4) for times in spent))
    return found


def _in_own_thread(work: Callable[[], dict[str, Timing]]) -> dict[str, Timing]:
    """Run work free of the caller's gradient mode, autocast and operator counters."""
    done: list[dict[str, Timing]] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(work())
        except Exception as error:  # noqa: BLE001  # raised again in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
