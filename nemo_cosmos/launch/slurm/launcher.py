"""A Slurm cluster: a script that a person can read, put into the queue with sbatch."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.exits import EXIT_FILE_VARIABLE, WORK_SUFFIX, Then, codes
from nemo_cosmos.launch.checks import fits_on
from nemo_cosmos.launch.environment import job_environment
from nemo_cosmos.launch.job import Job, Started, command_of
from nemo_cosmos.launch.jobs.record import JOB_VARIABLE, JobRecord
from nemo_cosmos.launch.script import command_lines, file_name, render
from nemo_cosmos.launch.settings import make_job_folder
from nemo_cosmos.launch.slurm.commands import (
    cancel,
    refuse_forever,
    require_containers,
    submit,
)
from nemo_cosmos.launch.slurm.settings import (
    SlurmSettings,
    check_secrets_are_set,
    check_slurm_job,
    interpreter,
)
from nemo_cosmos.launch.slurm.states import why_never
from nemo_cosmos.site import choices_for_jobs
from nemo_cosmos.storage import atomic_path

if TYPE_CHECKING:
    from nemo_run import SlurmExecutor

TEMPLATE = "slurm.sbatch.j2"
SIGNAL = "USR1"
"""Tells a command that its machines are asked for; SIGTERM stops it for good."""


class SlurmLauncher:
    """Puts jobs into a Slurm queue.

    Args:
        settings: the site's.
    """

    def __init__(self, settings: SlurmSettings) -> None:
        self.settings = settings

    def check(self, job: Job) -> None:
        """Refuse what the cluster would refuse hours later."""
        check_slurm_job(self.settings, job)

    def script(self, job: Job) -> str:
        """Return the script that ``sbatch`` takes."""
        self.check(job)
        settings, resources = self.settings, job.resources
        kept, smaller = choices_for_jobs(), self._smaller(job)
        return render(
            TEMPLATE,
            name=file_name(job.name),
            flags=self._flags(job),
            log_folder=str(settings.job_folder),
            secrets=settings.secrets,
            setup=settings.setup,
            environment=sorted(job_environment(job, settings.variables).items()),
            kept=kept,
            variants=job.variants,
            num_processes=resources.num_processes,
            num_nodes=resources.num_nodes,
            smaller=smaller,
            job_variable=JOB_VARIABLE,
            devices_per_node=resources.devices_per_node,
            srun_flags=self._srun_flags(job, bool(smaller)),
            command=command_lines(
                interpreter(settings, sys.executable),
                command_of(job),
                " ".join(self._added_words(job, bool(smaller))),
            ),
            signal=SIGNAL if self._signal_s(job) else None,
            retries=job.retries_at(settings.retries),
            excluded=settings.sbatch.get("exclude"),
            exit_variable=EXIT_FILE_VARIABLE,
            work_suffix=WORK_SUFFIX,
            nothing_codes=codes(Then.NOTHING),
            continue_codes=codes(Then.CONTINUE),
        )

    def run(self, job: Job) -> Started:
        """Put the job into the queue and return.

        A recipe that was changed in Python has no command; NeMo-Run carries it to the cluster.
        """
        if not job.command:
            self._run_recipe(job)
            return Started()
        script = self.script(job)
        if self.settings.container_image:
            require_containers()
        check_secrets_are_set(self.settings)
        # Slurm does not make the folder of the log: the job would end without a word.
        folder = make_job_folder(self.settings.job_folder)
        path = _new_file(folder, job.name)
        with atomic_path(path) as temporary:
            temporary.write_text(script, encoding="utf-8")
        number = submit(path, job.after)
        if (reason := why_never(number)) is not None:
            cancel(number)
            raise refuse_forever(number, reason)
        log = folder / self._log_name(job).replace("%j", number).replace("%A", number)
        JobRecord.of(job, "slurm", number, log=str(log)).keep()
        return Started(number=number, log=log.with_name(log.name.replace("%a", "*")))

    def withdraw(self, started: Started) -> None:
        """Take the job out of the queue."""
        if started.number is not None:
            cancel(started.number)

    def executor(self, job: Job) -> SlurmExecutor:
        """Describe the machines, the container and the queue to NeMo-Run.

        Raises:
            ConfigError: no account or image, both of which NeMo-Run needs.
        """
        import nemo_run as run

        settings = self.settings
        if not settings.account or not settings.container_image:
            raise ConfigError(
                f"The job '{job.name}' is a recipe without a command, which NeMo-Run carries to "
                "the cluster; for that set cluster.account=NAME and cluster.container_image=IMAGE, "
                "the image you built from our Dockerfile. Or give Job.for_recipe the command."
            )
        return run.SlurmExecutor(
            account=settings.account,
            partition=settings.partition,
            time=settings.time,
            nodes=job.resources.num_nodes,
            ntasks_per_node=job.resources.devices_per_node,
            gpus_per_node=job.resources.devices_per_node if settings.gpus_per_node else None,
            mem=settings.mem,
            exclusive=settings.exclusive,
            container_image=settings.container_image,
            container_mounts=[*settings.container_mounts, *job.mounts],
            env_vars=job_environment(job, settings.variables),
            tunnel=run.LocalTunnel(job_dir=str(settings.job_folder)),
            packager=run.Packager(),
            launcher="torchrun",
        )

    def _run_recipe(self, job: Job) -> None:
        self.check(job)
        executor = self.executor(job)
        from nemo_cosmos.launch.experiment import run_experiment

        run_experiment(job, executor, detach=True)

    def _flags(self, job: Job) -> list[str]:
        """The options of sbatch, one a line."""
        settings, resources = self.settings, job.resources
        num_nodes = self._num_nodes(job)
        named: dict[str, object] = {
            "job-name": file_name(job.name),
            "account": settings.account,
            "partition": settings.partition,
            "qos": settings.qos,
            "reservation": settings.reservation,
            "constraint": settings.constraint,
            "time": settings.time,
            "nodes": num_nodes,
            # Of a range, Slurm would give as many machines as the tasks of the least number need.
            "ntasks-per-node": None if "-" in num_nodes else resources.devices_per_node,
            "gpus-per-node": self._gpus(job),
            "cpus-per-task": settings.cpus_per_task,
            "mem": settings.mem,
            "exclusive": "" if settings.exclusive else None,
            "chdir": str(Path.cwd()),
            "output": str(settings.job_folder).replace("%", "%%") + f"/{self._log_name(job)}",
            "array": self._array(job),
            # A job that starts again writes on in the same log.
            "open-mode": "append",
            # To the ranks alone, which save; the script sees how they end.
            "signal": f"{SIGNAL}@{self._signal_s(job)}" if self._signal_s(job) else None,
            "requeue": "" if self._goes_back(job) else None,
            **settings.sbatch,
        }
        return [
            f"--{name}={shlex.quote(str(value))}" if value != "" else f"--{name}"
            for name, value in named.items()
            if value is not None
        ]

    def _goes_back(self, job: Job) -> bool:
        """Whether the job may start again: after a failure, a save, or a lost machine."""
        settings = self.settings
        retries = job.retries_at(settings.retries)
        return bool(retries or self._signal_s(job) or settings.min_nodes)

    def _signal_s(self, job: Job) -> int:
        """How long before its time is up the job is told to save; 0 where it could not go on."""
        return self.settings.signal_s if job.resumes else 0

    def _smaller(self, job: Job) -> list[int]:
        """The smaller numbers of machines that the job may run on, the largest first.

        Raises:
            ConfigError: its layout fits none of those that the site allows.
        """
        least, most = self.settings.min_nodes, job.resources.num_nodes
        if least is None or least >= most:
            return []
        sizes = [size for size in range(most - 1, least - 1, -1) if fits_on(job.recipe, size)]
        if not sizes:
            raise ConfigError(
                f"cluster.min_nodes={least} lets the job '{job.name}' start on fewer machines than "
                f"its {most}, but its layout fits no number from {least} to {most - 1}: the global "
                "batch and the parallel sizes must divide. Set cluster.min_nodes=null, or another "
                "layout or data.global_batch_size."
            )
        return sizes

    def _num_nodes(self, job: Job) -> str:
        sizes = [job.resources.num_nodes, *self._smaller(job)]
        return f"{sizes[-1]}-{sizes[0]}" if len(sizes) > 1 else str(sizes[0])

    def _added_words(self, job: Job, is_elastic: bool) -> list[str]:
        """Words of the command that only the running script knows, as the shell reads them."""
        words = ['"${run[@]}"'] if job.variants else []
        return [*words, '"trainer.num_nodes=$nodes"'] if is_elastic and job.recipe else words

    def _gpus(self, job: Job) -> int | None:
        """GPUs of a machine: all of it where it is the job's alone, else one a process."""
        settings = self.settings
        if not settings.gpus_per_node:
            return None
        return settings.gpus_per_node if settings.exclusive else job.resources.devices_per_node

    def _array(self, job: Job) -> str | None:
        if not job.variants:
            return None
        most = self.settings.sweep_at_once
        return f"0-{len(job.variants) - 1}" + (f"%{most}" if most else "")

    def _log_name(self, job: Job) -> str:
        """The log's name; of a sweep each run has its own."""
        return f"{file_name(job.name)}-{'%A_%a' if job.variants else '%j'}.log"

    def _srun_flags(self, job: Job, is_elastic: bool) -> list[str]:
        """The options of srun, one a line."""
        settings = self.settings
        # Slurm binds a task to one core unless it is told how many it has; and srun does not take
        # the number from sbatch.
        cores = settings.cpus_per_task
        flags = [f"--cpus-per-task={cores}" if cores else "--cpu-bind=none"]
        if is_elastic:
            devices = job.resources.devices_per_node
            tasks = f'--ntasks="$((nodes * {devices}))"'
            # From the job's first machine on, where the ranks meet.
            flags += ['--nodes="$nodes"', "--relative=0", tasks, f"--ntasks-per-node={devices}"]
        if settings.container_image:
            flags += [
                f"--container-image={shlex.quote(settings.container_image)}",
                f"--container-mounts={shlex.quote(','.join(settings.mounts(job)))}",
                f"--container-workdir={shlex.quote(str(Path.cwd()))}",
            ]
        return flags


def _new_file(folder: Path, name: str) -> Path:
    """A file that is not there yet, named after the job and the time."""
    stem = f"{file_name(name)}-{time.strftime('%Y%m%d-%H%M%S')}"
    paths = (folder / f"{stem}{f'-{n}' if n else ''}.sbatch" for n in range(1000))
    return next(path for path in paths if not path.exists())
