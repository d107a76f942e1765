"""kubectl, with its words in our errors."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_cosmos.errors import ConfigError, NemoCosmosError, ServiceError

#: A part of what kubectl says, and what helps; the first that is found counts.
_FIXES = {
    "localhost:8080": "kubectl knows of no cluster: set KUBECONFIG to the cluster's file.",
    "context": "Set cluster.context; 'kubectl config get-contexts' lists them.",
    'no matches for kind "jobset"': "JobSet is not installed on the cluster. An administrator "
    "installs it (https://jobset.sigs.k8s.io), 0.10.1 or later.",
    "unknown field": "The cluster's JobSet may be too old; 0.10.1 or later is needed.",
    "exceeded quota": "Ask for less (--nodes, --devices, cluster.cpus, cluster.mem); 'kubectl "
    "describe quota' shows what is left.",
    "namespaces": "Set cluster.namespace; 'kubectl get namespaces' lists them.",
    "persistentvolumeclaims": "Set cluster.container_mounts; 'kubectl get pvc' lists the claims.",
    "priorityclass": "Set cluster.priority_class; 'kubectl get priorityclasses' lists them.",
    "localqueue": "Set cluster.queue; 'kubectl get localqueues' lists them.",
    "podsecurity": "The namespace allows no such pod; see cluster.uid and the namespace's labels.",
    "forbidden": "Your account lacks the right: 'kubectl auth can-i create jobsets' asks for it.",
    "logged in": "Log in again, as your cluster's documentation says.",
    "username": "Log in again, as your cluster's documentation says.",
    "unauthorized": "Log in again, as your cluster's documentation says.",
    "not found": "'nemo-cosmos status' lists the jobs.",
}
_UNREACHABLE = (
    "unable to connect",
    "connection refused",
    "was refused - did you specify",
    "no such host",
    "timeout",
    "timed out",
)


@dataclass(frozen=True)
class Kubectl:
    """kubectl for one namespace of one cluster.

    Attributes:
        context: the cluster in kubectl's settings; None for the current one.
        namespace: None for the context's.
    """

    context: str | None = None
    namespace: str | None = None

    def create(self, manifest: Path, jobs: Sequence[Mapping[str, Any]] = ()) -> None:
        """Create what a manifest holds: all of it, or nothing where the cluster refuses a part.

        Args:
            manifest: the file.
            jobs: the jobs that its JobSets will become.

        Raises:
            ConfigError: the cluster refuses it, or there is no kubectl here.
            ServiceError: the cluster does not answer.
        """
        what = f"the manifest '{manifest}'"
        # Quotas, admission and unknown fields, before the first of several is there.
        self._call(["create", "--dry-run=server", "--output=name", f"--filename={manifest}"], what)
        if jobs:
            # JobSet takes a job's template as it is, and notes later that the job was refused.
            self._check_jobs(jobs, what)
        self._call(["create", "--output=name", f"--filename={manifest}"], what)

    def _check_jobs(self, jobs: Sequence[Mapping[str, Any]], what: str) -> None:
        given = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(jobs)})
        words = ["create", "--dry-run=server", "--output=name", "--filename=-"]
        try:
            self._call(words, what, given)
        except ConfigError as error:
            if "cannot create" not in str(error):  # who may create JobSets only
                raise

    def check_exist(self, kind: str, names: Sequence[str]) -> None:
        """Require objects that pods would wait for without end.

        Args:
            kind: the plural of their kind.
            names: the objects.

        Raises:
            ConfigError: one is not there.
        """
        if not names:
            return
        try:
            self._call(["get", kind, *names, "--output=name"], "to name them")
        except ConfigError as error:
            if "forbidden" not in str(error).lower():  # who may not look may still create
                raise

    def objects(self, kind: str, selector: str) -> list[dict[str, Any]]:
        """Return the objects of a kind that have a label.

        Args:
            kind: the plural of their kind.
            selector: the label.

        Raises:
            NemoCosmosError: the errors of :meth:`create`.
        """
        said = self._call(["get", kind, f"--selector={selector}", "--output=json"], "to list jobs")
        items: list[dict[str, Any]] = json.loads(said)["items"]
        return items

    def delete(self, names: Sequence[str]) -> None:
        """Delete JobSets, whose pods may save first.

        Args:
            names: the sets.

        Raises:
            NemoCosmosError: the errors of :meth:`create`.
        """
        words = ["delete", "jobsets", *names, "--ignore-not-found", "--wait=false"]
        self._call(words, f"to delete {', '.join(names)}")

    def log(
        self, selector: str, *, tail: int = -1, follow: bool = False, since: str | None = None
    ) -> Iterator[str]:
        """Yield what pods have printed.

        Args:
            selector: the pods' label.
            tail: how many of the last lines of each pod; -1 for all.
            follow: whether to go on until they end.
            since: the time from which lines are wanted, as RFC 3339 writes it.

        Raises:
            NemoCosmosError: the errors of :meth:`create`.
        """
        words = self._words(["logs", f"--selector={selector}", f"--tail={tail}"])
        words += ["--max-log-requests=10000", "--ignore-errors"]
        words += [f"--since-time={since}"] if since else []
        words += ["--follow"] if follow else []
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            try:
                for line in process.stdout:
                    yield line.rstrip("\n")
                said = process.stderr.read()
            finally:
                process.kill()
        if process.returncode > 0:
            raise _explained("to show the log", said)

    def _words(self, words: Sequence[str]) -> list[str]:
        if shutil.which("kubectl") is None:
            raise ConfigError(
                "There is no 'kubectl' on this machine, so no job can be submitted from it. "
                "Install it, or print the manifest here with --dryrun and run 'kubectl create -f "
                "FILE' where it is."
            )
        where = [f"--context={self.context}"] if self.context else []
        where += [f"--namespace={self.namespace}"] if self.namespace else []
        return ["kubectl", *where, *words]

    def _call(self, words: Sequence[str], what: str, given: str = "") -> str:
        ended = subprocess.run(
            self._words(words),
            input=given,  # without credentials kubectl asks for a name and a password
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise _explained(what, ended.stderr.strip() or ended.stdout.strip())
        return ended.stdout


def _explained(what: str, said: str) -> NemoCosmosError:
    """Make an error of what kubectl says."""
    lines = [line for line in said.splitlines() if not _is_of_client_library(line)]
    words = " ".join(" ".join(lines).split()).removeprefix("error: ").rstrip(".")
    lower = words.lower()
    fix = next((text for part, text in _FIXES.items() if part in lower), "")
    message = f"Kubernetes refuses {what}: {words or '(it says nothing)'}."
    if any(part in lower for part in _UNREACHABLE):
        fix = fix or "The cluster does not answer; 'kubectl cluster-info' asks it."
        return ServiceError(f"{message} {fix}")
    return ConfigError(f"{message} {fix}".rstrip())


def _is_of_client_library(line: str) -> bool:
    """Whether a line is a log entry of kubectl's own: ``E1130 08:00:00.0 memcache.go:265] ...``."""
    return line[:1] in "EWI" and line[1:5].isdigit()
