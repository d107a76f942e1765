"""Jobs on a real control plane of Kubernetes with JobSet, whose machines are entries of a table.

API server, controllers, scheduler and JobSet are the real ones (``kubernetes_cluster.sh``). No
container runs; the tests report the ends of pods as a machine's kubelet would. They run where
``NEMO_COSMOS_E2E=kubernetes`` and ``KUBECONFIG`` names such a cluster.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nemo_cosmos import site
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch import Job, KubernetesLauncher, KubernetesSettings, Resources
from nemo_cosmos.launch.jobs.state import JobState, Word
from nemo_cosmos.launch.jobs.watch import cancel_job, state_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("NEMO_COSMOS_E2E") != "kubernetes",
        reason="runs where NEMO_COSMOS_E2E=kubernetes",
    ),
]

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "nemo-cosmos"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
NAMESPACE = f"e2e-{os.getpid()}"
MOST_S = 300.0
SIZE = {"cpu": "128", "memory": "2Ti", "pods": "110", "nvidia.com/gpu": "8"}
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


def kubectl(*words: str, given: object = None) -> str:
    """Run kubectl with a JSON object as its input."""
    text = None if given is None else json.dumps(given)
    ended = subprocess.run(["kubectl", *words], input=text, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def made(kind: str, name: str, version: str = "v1", **more: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **more}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two machines with eight GPUs, a namespace that takes restricted pods, and a claim in it."""
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, RESTRICTED)
    ready = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
    for name in ("e2e-1", "e2e-2"):
        kubectl("create", "-f", "-", given=made("Node", name))
        status = {"status": {"capacity": SIZE, "allocatable": SIZE, "conditions": ready}}
        kubectl("patch", "node", name, "--subresource=status", f"--patch={json.dumps(status)}")
        kubectl("taint", "node", name, "node.kubernetes.io/not-ready:NoSchedule-")
    sized = {"accessModes": ["ReadWriteMany"]}
    claim = {**sized, "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}
    bound = {"claimRef": {"name": "runs", "namespace": NAMESPACE}, "hostPath": {"path": "/none"}}
    volume = {**sized, "capacity": {"storage": "1Gi"}, **bound}
    kubectl("create", "-f", "-", given=made("PersistentVolume", NAMESPACE, spec=volume))
    kubectl(
        "create", f"--namespace={NAMESPACE}", "-f", "-",
        given=made("PersistentVolumeClaim", "runs", spec=claim),
    )  # fmt: skip
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    kubectl("delete", "persistentvolume", NAMESPACE, "--wait=false")
    kubectl("delete", "node", "e2e-1", "e2e-2")


@pytest.fixture
def launcher(cluster, tmp_path, monkeypatch) -> Callable[..., KubernetesLauncher]:
    monkeypatch.setenv(site.SITE_VARIABLE, str(tmp_path / "site.txt"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    def make(**settings: Any) -> KubernetesLauncher:
        given = {
            "namespace": NAMESPACE,
            "container_image": "registry.example.com/nemo-cosmos:0.1",
            "container_mounts": ("runs:/runs",),
            **settings,
        }
        return KubernetesLauncher(KubernetesSettings(**given))

    return make


def command(*words: str, nodes: int = 1, devices: int = 8) -> Job:
    return Job(words[0], None, words, Resources(nodes, devices))


def pods_of(job: str) -> list[dict[str, Any]]:
    """The pods of a job that have a machine and have not ended."""
    said = kubectl(
        "get", "pods", f"--namespace={NAMESPACE}", "--output=json",
        f"--selector=jobset.sigs.k8s.io/jobset-name={job}",
    )  # fmt: skip
    return [
        pod
        for pod in json.loads(said)["items"]
        if pod["spec"].get("nodeName") and pod["status"].get("phase") in ("Pending", "Running")
        if "deletionTimestamp" not in pod["metadata"]
    ]


def wait_for_pods(job: str, number: int) -> list[dict[str, Any]]:
    end_s = time.monotonic() + MOST_S
    while len(pods := pods_of(job)) != number:
        assert time.monotonic() < end_s, state_of(job)
        time.sleep(0.5)
    return pods


def report(pod: dict[str, Any], phase: str, code: int | None = None, **more: Any) -> None:
    """Say of a pod what its machine would say."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    state: dict[str, Any] = {"running": {"startedAt": now}}
    if code is not None:
        state = {"terminated": {"exitCode": code, "startedAt": now, "finishedAt": now}}
    image = pod["spec"]["containers"][0]["image"]
    container = {"name": "ranks", "image": image, "imageID": "", "restartCount": 0}
    container |= {"ready": code is None, "state": state}
    status = {"status": {"phase": phase, "containerStatuses": [container], **more}}
    kubectl(
        "patch", "pod", pod["metadata"]["name"], f"--namespace={NAMESPACE}",
        "--subresource=status", f"--patch={json.dumps(status)}",
    )  # fmt: skip


def wait_for(job: str, wanted: Callable[[JobState], bool]) -> JobState:
    end_s = time.monotonic() + MOST_S
    while not wanted(state := state_of(job)):
        assert time.monotonic() < end_s, state
        time.sleep(0.5)
    return state


def test_a_job_of_two_machines_waits_runs_and_ends(launcher):
    job = launcher().run(command("evaluate", "a", nodes=2)).number
    pods = wait_for_pods(job, 2)
    assert state_of(job).word is Word.WAITING
    for pod in pods:
        report(pod, "Running")
    state = wait_for(job, lambda state: state.word is Word.RUNNING)
    assert state.nodes == "e2e-1,e2e-2"
    for pod in pods:
        report(pod, "Succeeded", 0)
    wait_for(job, lambda state: state.word is Word.DONE)


def test_a_failure_starts_again_and_wrong_use_does_not(launcher):
    job = launcher(retries=2).run(command("evaluate", "a")).number
    (pod,) = wait_for_pods(job, 1)
    report(pod, "Failed", 1)
    first = pod["metadata"]["uid"]
    wait_for(job, lambda state: any(each["metadata"]["uid"] != first for each in pods_of(job)))
    (pod,) = wait_for_pods(job, 1)
    report(pod, "Running")
    wait_for(job, lambda state: state == JobState(Word.RUNNING, "started again once", state.nodes))
    report(pod, "Failed", 2)
    state = wait_for(job, lambda state: state.word.is_ended)
    assert state.word is Word.FAILED and state.why.startswith("exit code 2")


def test_an_eviction_is_no_failure(launcher):
    job = launcher(retries=0).run(command("evaluate", "a")).number
    (pod,) = wait_for_pods(job, 1)
    lost = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    report(pod, "Failed", 137, conditions=[lost])
    first = pod["metadata"]["uid"]
    wait_for(job, lambda state: any(each["metadata"]["uid"] != first for each in pods_of(job)))
    cancel_job(job)


def test_a_chain_goes_on_where_the_job_before_has_ended_well(launcher):
    job = launcher().run_chain([command("curate", "a", "b"), command("evaluate", "b")]).number
    (pod,) = wait_for_pods(job, 1)
    assert pod["metadata"]["name"].startswith(f"{job}-step1-")
    report(pod, "Succeeded", 0)
    (pod,) = wait_for_pods(job, 1)
    assert pod["metadata"]["name"].startswith(f"{job}-step2-")
    report(pod, "Succeeded", 0)
    wait_for(job, lambda state: state.word is Word.DONE)


def test_a_job_that_is_too_large_waits_with_the_schedulers_words_and_is_cancelled(launcher):
    job = launcher(mem="4Ti").run(command("evaluate", "a")).number
    state = wait_for(job, lambda state: "Unschedulable" in state.why)
    assert state.word is Word.WAITING and "Insufficient memory" in state.why
    assert cancel_job(job) == job
    assert wait_for(job, lambda state: state.word.is_ended).word is Word.CANCELLED


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"namespace": "nowhere"}, "cluster.namespace|cluster.container_mounts"),
        ({"container_mounts": ("gone:/runs",)}, '"gone" not found.*cluster.container_mounts'),
        ({"context": "elsewhere"}, "cluster.context"),
        ({"annotations": {"no name!": "x"}}, "name part must consist of"),
        ({"node_selector": {"gpu": "two words"}}, "two words"),
    ],
)
def test_what_the_cluster_refuses_leaves_nothing_behind(launcher, settings, words):
    with pytest.raises(ConfigError, match=words):
        launcher(**settings).run(command("refused", "a"))
    left = kubectl("get", "jobsets", f"--namespace={NAMESPACE}", "--output=name")
    assert "refused" not in left


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
def test_the_chart_installs_and_is_removed(cluster, values):
    if "curation:" in values.read_text() and "rayjobs" not in kubectl("get", "crd"):
        pytest.skip("KubeRay's definition of RayJob is not there")
    where = ["--namespace", NAMESPACE]
    for words in (
        ["install", values.stem, str(CHART), "--values", str(values)],
        ["uninstall", values.stem],
    ):
        ended = subprocess.run(["helm", *words, *where], capture_output=True, text=True)
        assert ended.returncode == 0 and "would violate PodSecurity" not in ended.stderr, (
            ended.stderr
        )
