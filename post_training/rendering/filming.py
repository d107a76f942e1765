"""Film many recordings, in this process or in several; each is complete on disk or absent."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from typing import Protocol

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import ConfigError, NemoCosmosError
from nemo_cosmos.progress import Progress
from nemo_cosmos.storage.outputs import check_output_folder
from post_training.recordings import Recordings
from post_training.rendering.settings import FilmSettings


class Filmer(Protocol):
    """One process's model and renderer."""

    def film(self, index: int) -> None:
        """Film a recording and write it."""

    def close(self) -> None:
        """Give back what the renderer holds."""


@dataclass(frozen=True)
class FilmReport:
    """The result of :func:`fill_folder`.

    Attributes:
        folder: folder of the recordings.
        num_episodes: number of requested recordings, all of them in the folder.
        num_new: number of recordings made in this run.
        num_frames: frames of each recording.
        renderer: renderer that drew the new recordings.
        seconds: duration of this run.
    """

    folder: str
    num_episodes: int
    num_new: int
    num_frames: int
    renderer: str
    seconds: float

    def as_dict(self) -> JsonObject:
        """Return plain data, with the rate of new frames."""
        frames_per_s = self.num_new * self.num_frames / self.seconds if self.seconds else 0.0
        return {**asdict(self), "frames_per_s": round(frames_per_s, 1)}


def fill_folder(
    kind: Recordings,
    folder: str | os.PathLike[str],
    num_episodes: int,
    key_of: Callable[[int], str],
    settings: FilmSettings,
    prepare: Callable[[], tuple[str, Callable[[], Filmer]]],
    workers: int = 1,
    progress: Progress | None = None,
) -> FilmReport:
    """Make the recordings 0 to ``num_episodes - 1`` that the folder lacks.

    Args:
        kind: the kind of recordings.
        folder: folder for them; it may already hold some of the same settings.
        num_episodes: number of recordings in the end.
        key_of: gives the name of a recording by its number.
        settings: settings of the recordings.
        prepare: does what must be done once, and returns the renderer's name and what opens a
            process's filmer, which must be picklable.
        workers: number of processes that film at the same time; 0 films in this process.
        progress: called with the number of finished recordings and the number in all.

    Raises:
        ConfigError: a count out of range, or the folder holds recordings of other settings.
        StorageFullError: no space left; finished recordings are intact.
    """
    began_s = time.monotonic()
    if num_episodes < 1 or workers < 0:
        raise ConfigError(
            f"{num_episodes} episodes by {workers} workers were asked for; expected at least one "
            "episode, and 0 workers or more."
        )
    target = check_output_folder(folder)
    kind.check_settings(target, settings.as_dict())
    renderer, open_filmer = prepare()
    missing = [i for i in range(num_episodes) if not kind.is_complete(target, key_of(i))]

    def list_all() -> None:
        """List all that are complete, also those beyond the requested number."""
        pattern = key_of(0).rstrip("0") + "*"
        kind.write_manifest(target, settings.as_dict(), kind.complete_keys(target, pattern))

    list_all()  # first, so that a run that is stopped leaves its settings on record
    done = num_episodes - len(missing)
    for _ in film_all(open_filmer, missing, workers, renderer):
        done += 1
        if progress:
            progress(done, num_episodes)
    list_all()
    return FilmReport(
        folder=str(target),
        num_episodes=num_episodes,
        num_new=len(missing),
        num_frames=settings.num_frames,
        renderer=renderer,
        seconds=round(time.monotonic() - began_s, 2),
    )


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
