"""The environment of a job's processes."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nemo_cosmos.launch.job import Job
from nemo_cosmos.platform.gpu_environment import (
    GpuLayout,
    describe_environment,
    missing_variables,
)


def job_environment(job: Job, chosen: Mapping[str, object]) -> dict[str, str]:
    """Return the variables that a launcher sets: the job's and the site's, then the layout's.

    The variables of this process count as the user's choice, as processes inherit them.

    Args:
        job: what runs.
        chosen: variables that the site sets.
    """
    own = {**_as_text(chosen), **job.env}
    layout = layout_of(job)
    return own if layout is None else {**missing_variables(layout, {**os.environ, **own}), **own}


def describe_job_environment(job: Job, chosen: Mapping[str, object]) -> list[str]:
    """Say what a job's processes on GPUs see and why; nothing where it has no layout."""
    layout = layout_of(job)
    environment = {**os.environ, **_as_text(chosen), **job.env}
    return [] if layout is None else describe_environment(layout, environment)


def layout_of(job: Job) -> GpuLayout | None:
    """The parallel layout of a training recipe; None for other jobs."""
    trainer = getattr(job.recipe, "trainer", None)
    strategy = getattr(trainer, "strategy", None)
    return None if strategy is None else GpuLayout.of(strategy, job.resources.num_processes)


def _as_text(variables: Mapping[str, object]) -> dict[str, str]:
    """A site's file may hold numbers."""
    return {name: str(value) for name, value in variables.items()}
