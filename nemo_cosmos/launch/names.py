"""Names of jobs in queues that number nothing themselves, and what such a queue can hold."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch.job import Job

#: Pods and hosts get longer names from it, of 63 letters at most.
MOST_LETTERS = 24


def queue_name(jobs: Sequence[Job]) -> str:
    """Return a name for jobs that follow each other: of the first one, and the time.

    Args:
        jobs: the jobs.
    """
    letters = re.sub(r"[^a-z0-9]+", "-", jobs[0].name.lower())[:MOST_LETTERS].strip("-")
    if not letters or letters[0].isdigit():  # a host's name begins with a letter
        letters = f"job-{letters}".rstrip("-")
    return f"{letters}-{time.strftime('%m%d-%H%M%S')}"


def task_name(name: str, place: int) -> str:
    """Return the name of one run of a sweep."""
    return f"{name}-{place}"


def check_no_sweep_in_chain(jobs: Sequence[Job], queue: str) -> None:
    """Refuse a sweep that something follows, where the queue waits for one job alone.

    Args:
        jobs: the chain.
        queue: the queue's name.

    Raises:
        ConfigError: there is such a sweep.
    """
    if len(jobs) > 1 and any(job.variants for job in jobs):
        raise ConfigError(
            f"{queue} starts no job after several others, so --sweep and --then exclude each other "
            "there. Submit what follows when the runs of the sweep have ended, or use Slurm."
        )
