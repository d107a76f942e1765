"""Film many recordings, in this process or in several; each is complete on disk or absent."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

from nemo_cosmos.errors import NemoCosmosError


class Filmer(Protocol):
    """One process's model and renderer."""

    def film(self, index: int) -> None:
        """Film a recording and write it."""

    def close(self) -> None:
        """Give back what the renderer holds."""


def film_all(
    open_filmer: Callable[[], Filmer], indices: Sequence[int], workers: int, renderer: str
) -> Iterator[int]:
    """Film and write recordings in any order.

    Args:
        open_filmer: opens a process's filmer; it must be picklable.
        indices: numbers of the recordings.
        workers: number of processes that film at the same time; 0 films in this process.
        renderer: name of the renderer, for messages.

    Yields:
        the number of each recording that is on disk.

    Raises:
        NemoCosmosError: a process died.
    """
    if not indices:
        return
    if workers == 0:
        filmer = open_filmer()
        try:
            for index in indices:
                filmer.film(index)
                yield index
        finally:
            filmer.close()
        return
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(indices)),
        mp_context=multiprocessing.get_context("spawn"),  # OpenGL does not survive a fork
        initializer=_start_worker,
        initargs=(open_filmer,),
    )
    try:
        futures = [pool.submit(_film_one, index) for index in indices]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise NemoCosmosError(
            f"A process that rendered with '{renderer}' died. The finished recordings are kept; "
            "run the same command again to resume, with '--renderer software' if it happens again."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_filmer: Filmer | None = None


def _start_worker(open_filmer: Callable[[], Filmer]) -> None:
    """Open this process's filmer, once."""
    global _filmer
    # One core per worker: Mesa's rasteriser and OpenCV would each take all of them.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    import cv2

    cv2.setNumThreads(1)
    _filmer = open_filmer()


def _film_one(index: int) -> int:
    assert _filmer is not None, "the pool starts every worker with _start_worker"
    _filmer.film(index)
    return index
