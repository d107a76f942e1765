"""A Kubernetes cluster: a JobSet that a person can read, created with kubectl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nemo_cosmos.exits import Then, codes
from nemo_cosmos.launch.environment import job_environment
from nemo_cosmos.launch.job import Job, Started, command_of
from nemo_cosmos.launch.jobs.record import JOB_VARIABLE, JobRecord
from nemo_cosmos.launch.kubernetes.commands import Kubectl
from nemo_cosmos.launch.kubernetes.settings import (
    SCRATCH,
    SHARED_MEMORY,
    TMP,
    KubernetesSettings,
    check_kubernetes_job,
)
from nemo_cosmos.launch.names import check_no_sweep_in_chain, queue_name, task_name
from nemo_cosmos.launch.ranks import MODULE, PORT
from nemo_cosmos.launch.script import file_name, render
from nemo_cosmos.launch.settings import make_job_folder
from nemo_cosmos.site import choices_for_jobs
from nemo_cosmos.storage import atomic_path

TEMPLATE = "jobset.yaml.j2"


class KubernetesLauncher:
    """Creates JobSets; a chain is one set, whose later jobs wait for those before them.

    Args:
        settings: the site's.
    """

    def __init__(self, settings: KubernetesSettings) -> None:
        self.settings = settings
        self._kubectl = Kubectl(settings.context, settings.namespace)

    def check(self, job: Job) -> None:
        """Refuse what the cluster would refuse hours later."""
        check_kubernetes_job(self.settings, job)

    def script(self, job: Job) -> str:
        """Return the manifest that ``kubectl create`` takes."""
        return self.chain_script([job])

    def run(self, job: Job) -> Started:
        """Create the job and return."""
        return self.run_chain([job])

    def chain_script(self, jobs: Sequence[Job]) -> str:
        """Return the manifest of jobs that follow each other."""
        return self._manifest(jobs, queue_name(jobs))

    def run_chain(self, jobs: Sequence[Job]) -> Started:
        """Create jobs that follow each other, as one."""
        name = queue_name(jobs)
        manifest = self._manifest(jobs, name)
        folder = make_job_folder(self.settings.job_folder)
        path = folder / f"{name}.yaml"
        with atomic_path(path) as temporary:
            temporary.write_text(manifest, encoding="utf-8")
        claims = {claim for job in jobs for claim in self.settings.claims(job).values()}
        self._kubectl.check_exist("persistentvolumeclaims", sorted(claims))
        self._kubectl.create(path, _jobs_in(manifest))
        place = {
            "context": self.settings.context or "",
            "namespace": self.settings.namespace or "",
            "devices": str(jobs[0].resources.devices_per_node),
        }
        # Its runs are on a claim, which this machine does not see.
        JobRecord.of_chain(jobs, "kubernetes", name, place=place, runs=()).keep()
        return Started(number=name)

    def withdraw(self, started: Started) -> None:
        """Delete the job."""
        if started.number is not None:
            self._kubectl.delete([started.number])

    def _manifest(self, jobs: Sequence[Job], name: str) -> str:
        check_no_sweep_in_chain(jobs, "Kubernetes")
        for job in jobs:
            self.check(job)
        settings, first = self.settings, jobs[0]
        claims = {folder: claim for job in jobs for folder, claim in settings.claims(job).items()}
        volumes = {claim: f"claim{place}" for place, claim in enumerate(sorted({*claims.values()}))}
        hopeless = codes(Then.NOTHING)
        return render(
            TEMPLATE,
            name=file_name(first.name),
            settings=settings,
            sets=_sets(jobs, name, settings),
            retries=max(job.retries_at(settings.retries) for job in jobs),
            hopeless=[code for code in hopeless if code],
            to_be_continued=list(codes(Then.CONTINUE)),
            kept=choices_for_jobs(),
            module=MODULE,
            port=PORT,
            job_variable=JOB_VARIABLE,
            tolerations=[_toleration(text) for text in settings.tolerations],
            secrets=[
                (variable, *place.split("/"))
                for variable, place in sorted(settings.secrets.items())
            ],
            mounts=[(folder, volumes[claim]) for folder, claim in sorted(claims.items())],
            volumes=[(volume, claim) for claim, volume in volumes.items()],
            scratch=SCRATCH,
            tmp=TMP,
            shared_memory=SHARED_MEMORY,
        )


def _sets(jobs: Sequence[Job], name: str, settings: KubernetesSettings) -> list[dict[str, Any]]:
    """The sets of a manifest: one for each run of a sweep, or one for all jobs of a chain."""
    variants = jobs[0].variants
    if not variants:
        return [{"name": name, "steps": _steps(jobs, settings, ())}]
    return [
        {"name": task_name(name, place), "steps": _steps(jobs, settings, words)}
        for place, words in enumerate(variants)
    ]


def _jobs_in(manifest: str) -> list[dict[str, Any]]:
    """The jobs that JobSet makes of a manifest."""
    import yaml

    return [
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": f"{made['metadata']['name']}-{step['name']}-0"},
            "spec": step["template"]["spec"],
        }
        for made in yaml.safe_load_all(manifest)
        if made
        for step in made["spec"]["replicatedJobs"]
    ]


def _steps(
    jobs: Sequence[Job], settings: KubernetesSettings, more: Sequence[str]
) -> list[dict[str, Any]]:
    names = ["node"] if len(jobs) == 1 else [f"step{place + 1}" for place in range(len(jobs))]
    return [
        {
            "name": name,
            "after": before,
            "nodes": job.resources.num_nodes,
            "devices": job.resources.devices_per_node,
            "words": [*command_of(job), *more],
            "environment": sorted(job_environment(job, settings.variables, inherits=False).items()),
        }
        for name, before, job in zip(names, [None, *names], jobs, strict=False)
    ]


def _toleration(text: str) -> dict[str, str]:
    """``KEY=VALUE:EFFECT`` as Kubernetes writes it."""
    taint, _, effect = text.rpartition(":")
    key, equals, value = taint.partition("=")
    chosen = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
    return {**({"key": key} if key else {}), **chosen, "effect": effect}
