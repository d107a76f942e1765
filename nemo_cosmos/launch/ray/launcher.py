"""A Ray cluster: commands that a person can read, submitted with ``ray job submit``."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from nemo_cosmos.launch.environment import job_environment
from nemo_cosmos.launch.job import Job, Started, command_of
from nemo_cosmos.launch.jobs.record import JOB_VARIABLE, JobRecord
from nemo_cosmos.launch.names import check_no_sweep_in_chain, queue_name, task_name
from nemo_cosmos.launch.ray.commands import JobServer, submit
from nemo_cosmos.launch.ray.settings import RaySettings, check_ray_job
from nemo_cosmos.launch.script import file_name, render
from nemo_cosmos.launch.settings import make_job_folder
from nemo_cosmos.site import choices_for_jobs
from nemo_cosmos.storage import atomic_path

TEMPLATE = "ray.sh.j2"
#: The module that runs on the head node, and starts a job's ranks on the others.
DRIVER = "nemo_cosmos.launch.ray.nodes"


class RayLauncher:
    """Submits jobs to a Ray cluster; a chain is one job, whose commands follow each other.

    Args:
        settings: the site's.
    """

    def __init__(self, settings: RaySettings) -> None:
        self.settings = settings
        self._server = JobServer(settings.address)

    def check(self, job: Job) -> None:
        """Refuse what the cluster would refuse later."""
        check_ray_job(self.settings, job)

    def script(self, job: Job) -> str:
        """Return a script of ``ray job submit``."""
        return self.chain_script([job])

    def run(self, job: Job) -> Started:
        """Submit the job and return."""
        return self.run_chain([job])

    def chain_script(self, jobs: Sequence[Job]) -> str:
        """Return a script that submits jobs that follow each other."""
        return self._script(jobs, self._submissions(jobs, queue_name(jobs)))

    def run_chain(self, jobs: Sequence[Job]) -> Started:
        """Submit jobs that follow each other, as one."""
        name = queue_name(jobs)
        submissions = self._submissions(jobs, name)
        folder = make_job_folder(self.settings.job_folder)
        with atomic_path(folder / f"{name}.sh") as temporary:
            temporary.write_text(self._script(jobs, submissions), encoding="utf-8")
        self._server.require()  # the command itself would wait for half a minute
        done: list[str] = []
        for number, words in submissions.items():
            try:
                submit(words)
            except Exception:
                for earlier in done:
                    self._server.stop(earlier)
                raise
            done.append(number)
        place = {"address": self.settings.address}
        JobRecord.of_chain(jobs, "ray", name, place=place).keep()
        return Started(number=name)

    def withdraw(self, started: Started) -> None:
        """Stop the job."""
        if started.number is not None:
            self._server.stop(started.number)

    def _script(self, jobs: Sequence[Job], submissions: dict[str, list[str]]) -> str:
        name = file_name("+".join(job.name for job in jobs))
        return render(TEMPLATE, name=name, submissions=list(submissions.values()))

    def _submissions(self, jobs: Sequence[Job], name: str) -> dict[str, list[str]]:
        """The words of ``ray job submit`` by the job's number: one for each run of a sweep."""
        check_no_sweep_in_chain(jobs, "Ray")
        for job in jobs:
            self.check(job)
        if not jobs[0].variants:
            return {name: self._words(jobs, name, ())}
        return {
            task_name(name, place): self._words(jobs, task_name(name, place), more)
            for place, more in enumerate(jobs[0].variants)
        }

    def _words(self, jobs: Sequence[Job], number: str, more: Sequence[str]) -> list[str]:
        variables = {
            JOB_VARIABLE: number,
            # Else Ray kills a job 3 s after it was asked to stop.
            "RAY_JOB_STOP_WAIT_TIME_S": str(self.settings.save_s),
        }
        folder = self.settings.work_dir or str(Path.cwd())
        commands = " && ".join(shlex.join(self._driver(job, more)) for job in jobs)
        return [
            "ray", "job", "submit",
            f"--address={self.settings.address}",
            f"--submission-id={number}",
            f"--runtime-env-json={json.dumps({'env_vars': variables})}",
            "--no-wait",
            "--",
            "bash", "-c", f"cd {shlex.quote(folder)} && {commands}",
        ]  # fmt: skip

    def _driver(self, job: Job, more: Sequence[str]) -> list[str]:
        """The words that start the ranks of a job, on the cluster."""
        settings, resources = self.settings, job.resources
        gpus = resources.devices_per_node if settings.gpus_per_node else 0
        environment = job_environment(job, settings.variables, inherits=False)
        return [
            settings.python or sys.executable, "-m", DRIVER,
            f"--nodes={resources.num_nodes}",
            f"--devices={resources.devices_per_node}",
            f"--gpus={gpus}",
            f"--cpus={settings.cpus}",
            f"--retries={job.retries_at(settings.retries)}",
            *(f"--resource={key}={amount}" for key, amount in settings.resources.items()),
            *(f"--secret={name}" for name in settings.secrets),
            *(f"--env={key}={value}" for key, value in sorted(environment.items())),
            *(f"--site={word}" for word in choices_for_jobs()),
            "--", *command_of(job), *more,
        ]  # fmt: skip
