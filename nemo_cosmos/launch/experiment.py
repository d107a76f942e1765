"""Jobs as experiments of NeMo-Run, for the launchers that use it."""

from __future__ import annotations

import nemo_run as run

from nemo_cosmos.errors import JobFailedError
from nemo_cosmos.launch.job import COMMAND_MODULE, Job

TASK = "job"
_FAILED = ("FAILED", "CANCELLED")


def task_of(job: Job) -> run.Partial | run.Script:
    """Return the job as NeMo-Run starts it: a recipe, or ``python -m nemo_cosmos ...``."""
    if job.recipe is not None:
        return job.recipe
    return run.Script(COMMAND_MODULE, args=list(job.command), entrypoint="python", m=True)


def run_experiment(job: Job, executor: run.Executor, detach: bool) -> None:
    """Run a job as an experiment of NeMo-Run.

    Args:
        job: the job.
        executor: where it runs.
        detach: whether to return once the job is queued, instead of waiting for its end.

    Raises:
        JobFailedError: it ended with an error.
    """
    with run.Experiment(job.name) as experiment:
        experiment.add(task_of(job), executor=executor, name=TASK)
        experiment.run(detach=detach, tail_logs=True)
    # Leaving the block waits for the job; NeMo-Run itself raises nothing where one has failed.
    failed = [each for each in experiment.jobs if each.state.name in _FAILED]
    if failed and not detach:
        raise JobFailedError(
            f"The job '{job.name}' ended as '{failed[0].state.name}'; its log is in "
            f"'{failed[0].executor.job_dir}'."
        )
