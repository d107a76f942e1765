"""What Kubernetes says of its jobs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from nemo_cosmos.errors import NemoCosmosError
from nemo_cosmos.launch.jobs.logs import read_tasks
from nemo_cosmos.launch.jobs.record import JobRecord
from nemo_cosmos.launch.jobs.state import JobState, Word
from nemo_cosmos.launch.kubernetes.commands import Kubectl
from nemo_cosmos.launch.names import task_name

_OURS = "app.kubernetes.io/managed-by=nemo-cosmos"
_SET_LABEL = "jobset.sigs.k8s.io/jobset-name"
_NODE_LABEL = "batch.kubernetes.io/job-completion-index"
_POLL_S = 2.0
#: What Kubernetes' words for waiting mean.
_MEANINGS = {
    "ImagePullBackOff": "the image cannot be pulled (cluster.container_image, "
    "cluster.image_pull_secrets)",
    "ErrImagePull": "the image cannot be pulled (cluster.container_image, "
    "cluster.image_pull_secrets)",
    "InvalidImageName": "cluster.container_image is no image",
    "CreateContainerConfigError": "a Secret or a key of it is not there (cluster.secrets)",
    "CreateContainerError": "the container cannot be made",
    "RunContainerError": "the container cannot start (cluster.python, cluster.work_dir)",
    "Unschedulable": "no machine has what it asks for",
    "ContainerCreating": "its pods start",
    "PodInitializing": "its pods start",
}
Item = dict[str, Any]


class KubernetesWatcher:
    """Looks after JobSets."""

    def states(self, records: Sequence[JobRecord]) -> Mapping[str, JobState]:
        """Ask for the sets and pods of each cluster and namespace once."""
        places: dict[Kubectl, list[JobRecord]] = defaultdict(list)
        for record in records:
            places[_kubectl(record)].append(record)
        found: dict[str, JobState] = {}
        for kubectl, jobs in places.items():
            sets = {_name(each): each for each in kubectl.objects("jobsets", _OURS)}
            pods: dict[str, list[Item]] = defaultdict(list)
            for pod in kubectl.objects("pods", _OURS):
                pods[pod["metadata"].get("labels", {}).get(_SET_LABEL, "")].append(pod)
            for record in jobs:
                for place, task in enumerate(record.tasks):
                    name = _set_of(record, place)
                    found[task] = _state(record, sets.get(name), pods[name])
        return found

    def log(
        self, record: JobRecord, task: str | None, rank: int | None, follow: bool
    ) -> Iterator[str]:
        """Read the output of the pods."""

        def lines(place: int) -> Iterator[str]:
            selector = f"{_SET_LABEL}={_set_of(record, place)}"
            if rank is not None:
                selector += f",{_NODE_LABEL}={rank // int(record.place.get('devices', 1))}"
            return self._lines(record, record.tasks[place], selector, follow)

        return read_tasks(record, task, rank, follow, partial(_set_of, record), lines)

    def tail(self, record: JobRecord, task: str) -> list[str]:
        """Return the last lines of its first pod."""
        name = _set_of(record, record.tasks.index(task))
        selector = f"{_SET_LABEL}={name},{_NODE_LABEL}=0"
        try:
            return list(_kubectl(record).log(selector, tail=50))
        except NemoCosmosError:
            return []  # its container has not started, or is gone

    def cancel(self, record: JobRecord, task: str | None) -> None:
        """Delete it, which lets its ranks save first."""
        chosen = [place for place, each in enumerate(record.tasks) if task in (None, each)]
        _kubectl(record).delete([_set_of(record, place) for place in chosen])

    def _lines(self, record: JobRecord, task: str, selector: str, follow: bool) -> Iterator[str]:
        """The lines of all pods, also of those that start later, as after an eviction."""
        kubectl, since = _kubectl(record), None
        if not follow:
            yield from kubectl.log(selector)
            return
        while True:
            state = self.states([record])[task]
            if state.word is not Word.WAITING:
                now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                yield from kubectl.log(selector, follow=True, since=since)
                since = now
            if state.word not in (Word.WAITING, Word.RUNNING):
                return
            time.sleep(_POLL_S)


def _kubectl(record: JobRecord) -> Kubectl:
    return Kubectl(record.place.get("context") or None, record.place.get("namespace") or None)


def _name(item: Item) -> str:
    return str(item["metadata"]["name"])


def _set_of(record: JobRecord, place: int) -> str:
    return task_name(record.number, place) if record.variants else record.number


def _state(record: JobRecord, job_set: Item | None, pods: Sequence[Item]) -> JobState:
    if job_set is None:
        if record.ended:
            return JobState(Word(record.ended))
        return JobState(Word.UNKNOWN, "the cluster has forgotten it")
    status = job_set.get("status", {})
    said = {
        each["type"]: str(each.get("message", ""))
        for each in status.get("conditions", ())
        if each.get("status") == "True"
    }
    nodes = ",".join(sorted({name for pod in pods if (name := pod["spec"].get("nodeName"))}))
    if "Completed" in said:
        return JobState(Word.DONE, "", nodes)
    if "Failed" in said:
        code = _exit_code(pods)
        why = said["Failed"] if code is None else f"exit code {code}: {said['Failed']}"
        return JobState(Word.FAILED, why, nodes)
    if job_set["metadata"].get("deletionTimestamp"):
        return JobState(Word.CANCELLED, "its pods save and end", nodes)
    if job_set.get("spec", {}).get("suspend"):
        return JobState(Word.WAITING, said.get("Suspended") or "its queue has not admitted it")
    why = next((text for pod in pods if (text := _why_waiting(pod))), "")
    is_running = any(pod.get("status", {}).get("phase") == "Running" for pod in pods)
    if is_running:
        restarts = int(status.get("restarts", 0))
        again = f"started again {restarts} times" if restarts > 1 else "started again once"
        return JobState(Word.RUNNING, why or (again if restarts else ""), nodes)
    return JobState(Word.WAITING, why or "its pods are not there yet", nodes)


def _why_waiting(pod: Item) -> str:
    """Why a pod does not run, in Kubernetes' words and in ours."""
    status = pod.get("status", {})
    reasons = [
        (each["state"]["waiting"].get("reason", ""), each["state"]["waiting"].get("message", ""))
        for each in status.get("containerStatuses", ())
        if "waiting" in each.get("state", {})
    ] or [
        (each.get("reason", ""), each.get("message", ""))
        for each in status.get("conditions", ())
        if each.get("type") == "PodScheduled" and each.get("status") == "False"
    ]
    if not reasons:
        return ""
    reason, message = reasons[0]
    parts = [part for part in (reason, message, _MEANINGS.get(reason, "")) if part]
    return ": ".join(dict.fromkeys(parts))


def _exit_code(pods: Sequence[Item]) -> int | None:
    """The exit code of the first pod that failed."""
    ends = [
        each["state"]["terminated"]
        for pod in pods
        for each in pod.get("status", {}).get("containerStatuses", ())
        if each.get("state", {}).get("terminated", {}).get("exitCode")
    ]
    ends.sort(key=lambda end: str(end.get("finishedAt", "")))
    return int(ends[0]["exitCode"]) if ends else None
