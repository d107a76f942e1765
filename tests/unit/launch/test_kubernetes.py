"""Jobs for Kubernetes: their manifests, and what is made of kubectl's words."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from nemo_cosmos import site
from nemo_cosmos.errors import ConfigError, InputError, ServiceError
from nemo_cosmos.launch import Job, KubernetesLauncher, KubernetesSettings, Resources, run_chain
from nemo_cosmos.launch.chain import chain_scripts
from nemo_cosmos.launch.jobs.record import read_records
from nemo_cosmos.launch.jobs.watch import cancel_job, job_log, list_jobs
from nemo_cosmos.launch.settings import read_settings

IMAGE = "registry.example.com/nemo-cosmos:0.1"
#: A stand-in for kubectl: notes its words, and answers from files.
KUBECTL = """#!/bin/bash
echo "$*" >> "$RECORDS/words"
verb=$1; [[ $1 == --* ]] && verb=$3
if grep -qs "^$verb " "$RECORDS/refused"; then
  sed "s/^$verb //" "$RECORDS/refused" >&2; exit 1
fi
case $* in
  *get\\ jobsets*) cat "$RECORDS/jobsets" ;;
  *get\\ pods*) cat "$RECORDS/pods" ;;
  *logs*) cat "$RECORDS/log" ;;
esac
"""


class Cluster(NamedTuple):
    """What the stand-in was told, and what it says.

    Attributes:
        folder: files of both.
    """

    folder: Path

    @property
    def words(self) -> list[str]:
        """The words of each call."""
        path = self.folder / "words"
        return path.read_text().splitlines() if path.exists() else []

    def says(self, name: str, answer: object) -> None:
        """Set an answer: text, or items of a list."""
        text = answer if isinstance(answer, str) else json.dumps({"items": answer})
        (self.folder / name).write_text(text)


@pytest.fixture(autouse=True)
def own_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(site.SITE_VARIABLE, str(tmp_path / "site.txt"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    records, programs = tmp_path / "records", tmp_path / "bin"
    records.mkdir()
    programs.mkdir()
    (programs / "kubectl").write_text(KUBECTL)
    (programs / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORDS", str(records))
    return Cluster(records)


@pytest.fixture
def launcher() -> Callable[..., KubernetesLauncher]:
    def make(**settings: Any) -> KubernetesLauncher:
        given: dict[str, Any] = {"container_image": IMAGE, "container_mounts": ("runs:/runs",)}
        return KubernetesLauncher(KubernetesSettings(**{**given, **settings}))

    return make


def command(*words: str, nodes: int = 1, devices: int = 1, **more: Any) -> Job:
    return Job(words[0], None, words, Resources(nodes, devices), **more)


def pod_of(job_set: dict[str, Any], step: int = 0) -> dict[str, Any]:
    pod: dict[str, Any] = job_set["spec"]["replicatedJobs"][step]["template"]["spec"]["template"]
    return pod["spec"]


def container_of(job_set: dict[str, Any], step: int = 0) -> dict[str, Any]:
    (container,) = pod_of(job_set, step)["containers"]
    return container


def test_ranks_meet_at_the_first_pod(launcher):
    (made,) = yaml.safe_load_all(launcher().script(command("evaluate", "a", nodes=4, devices=8)))
    name = made["metadata"]["name"]
    (job,) = made["spec"]["replicatedJobs"]
    assert job["template"]["spec"]["completions"] == job["template"]["spec"]["parallelism"] == 4
    container = container_of(made)
    assert container["command"] == ["/opt/venv/bin/python", "-m", "nemo_cosmos.launch.ranks"]
    assert container["args"] == [
        "--nodes=4", "--devices=8", f"--meet={name}-node-0-0.{name}:29500", "--", "evaluate", "a",
    ]  # fmt: skip
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 8
    # A pod's name becomes a host's: SET-STEP-0-INDEX.
    assert len(f"{name}-node-0-99999") < 63


def test_words_arrive_as_they_were_given(launcher):
    prompt = 'it\'s a "red" block: $(HOME) $$ `date` \\ \n {a} # no comment'
    made = yaml.safe_load(launcher().script(command("generate", "world", "--prompt", prompt)))
    got = container_of(made)["args"][-1]
    assert got.replace("$$", "$") == prompt and "$(HOME)" not in got.replace("$$", "")


def test_a_pod_is_confined_and_writes_into_claims(launcher):
    settings = {"container_mounts": ("runs:/runs", "lake:/data", "lake:/more"), "gpus_per_node": 0}
    made = yaml.safe_load(launcher(**settings).script(command("curate", "/data/raw", "/runs/x")))
    pod, container = pod_of(made), container_of(made)
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
    assert pod["automountServiceAccountToken"] is False
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert sorted(claims.values()) == ["lake", "runs"]
    mounted = {each["mountPath"]: claims.get(each["name"]) for each in container["volumeMounts"]}
    assert mounted.items() >= {"/runs": "runs", "/data": "lake", "/more": "lake"}.items()
    assert {"/tmp", "/scratch", "/dev/shm"} <= mounted.keys()


def test_a_secret_is_a_reference(launcher, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "a-key-of-mine")
    script = launcher(secrets={"WANDB_API_KEY": "wandb/api-key"}).script(command("curate"))
    assert "a-key-of-mine" not in script
    (key,) = [
        each for each in container_of(yaml.safe_load(script))["env"]
        if each["name"] == "WANDB_API_KEY"
    ]  # fmt: skip
    assert key["valueFrom"] == {"secretKeyRef": {"name": "wandb", "key": "api-key"}}


def test_the_shell_that_submits_lends_no_variables(launcher, monkeypatch):
    from recipes.registry import get_recipe

    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", "7")
    recipe = get_recipe("diffusion_7b_text2world")
    job = Job("train", recipe, ("pretrain",), Resources(32, 8), env={"A": "1"})
    made = yaml.safe_load(launcher(interface="eth0").script(job))
    env = {each["name"]: each.get("value") for each in container_of(made)["env"]}
    assert env["A"] == "1" and env["NCCL_SOCKET_IFNAME"] == "eth0"
    assert env.get("CUDA_DEVICE_MAX_CONNECTIONS") != "7"


def test_kept_settings_come_along_but_for_the_cluster(launcher):
    site.keep_choices(["cluster=kubernetes", "cluster.namespace=cosmos", "storage.outputs=/runs/o"])
    made = yaml.safe_load(launcher().script(command("curate")))
    assert [w for w in container_of(made)["args"] if "--site" in w] == [
        "--site=storage.outputs=/runs/o"
    ]


def test_each_run_of_a_sweep_is_a_set_and_a_chain_is_one(launcher):
    variants = [("lr=1e-5", "log.name=a"), ("lr=1e-4", "log.name=b")]
    sets = list(yaml.safe_load_all(launcher().script(command("pretrain", variants=variants))))
    assert [tuple(container_of(each)["args"][-2:]) for each in sets] == variants
    assert [each["metadata"]["name"][-2:] for each in sets] == ["-0", "-1"]
    settings = {"container_image": IMAGE, "container_mounts": ["runs:/runs"]}
    jobs = [command("curate"), command("tokenize"), command("finetune", nodes=2, devices=8)]
    (script,) = chain_scripts(jobs, {"executor": "kubernetes", **settings})
    steps = yaml.safe_load(script)["spec"]["replicatedJobs"]
    assert [step["name"] for step in steps] == ["step1", "step2", "step3"]
    assert "dependsOn" not in steps[0]
    assert steps[2]["dependsOn"] == [{"name": "step2", "status": "Complete"}]
    with pytest.raises(ConfigError, match="exclude each other"):
        launcher().chain_script([command("pretrain", variants=variants), command("evaluate")])


def test_failures_start_again_but_wrong_use_does_not(launcher):
    spec = yaml.safe_load(launcher(retries=1).script(command("curate", retries=2)))["spec"]
    assert spec["failurePolicy"]["maxRestarts"] == 2
    rules = {rule["name"]: rule for rule in spec["failurePolicy"]["rules"]}
    # The first rule that matches counts; both are of one reason, and differ by the message.
    assert list(rules) == ["hopeless", "evicted"]
    assert rules["hopeless"]["onJobFailureMessagePatterns"] == ["exit code (2|3|130) matching"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    evicted, codes = job["podFailurePolicy"]["rules"]
    assert evicted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert codes["onExitCodes"]["values"] == [2, 3, 75, 130]
    # Kubernetes takes a pod failure policy only with these.
    assert job["backoffLimit"] == 0 and job["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize(
    ("settings", "job", "message"),
    [
        ({"container_image": None}, {}, "container_image is not set"),
        (
            {"container_image": "registry/two words:1"},
            {},
            "'registry/two words:1', which names no image",
        ),
        ({"container_image": "registry.example.com/nemo:"}, {}, "no image"),
        ({"container_image": "/shared/nemo.sqsh"}, {}, "no image"),
        ({"max_nodes": 4}, {"nodes": 5}, "at most 4"),
        ({"gpus_per_node": 4}, {"devices": 8}, "cluster.gpus_per_node"),
        ({"container_mounts": ("/data:/data",)}, {}, "CLAIM:/CONTAINER_PATH"),
        ({"container_mounts": ("data",)}, {}, "kubectl get pvc"),
        ({"container_mounts": ("data:/usr/",)}, {}, "needs for itself"),
        ({"container_mounts": ("a:/runs", "b:/runs")}, {}, "twice"),
        ({"container_mounts": ("data:/data",)}, {}, "no mount covers"),
        ({"work_dir": "runs"}, {}, "begins with '/'"),
        ({"env_vars": {"HF_TOKEN": "x"}}, {}, 'secrets={HF_TOKEN: "NAME/KEY"}'),
        ({}, {"env": {"URI": "mongodb://me:hunter2@host/db"}}, "holds a password"),
        ({"secrets": {"HF_TOKEN": "my-token"}}, {}, "SECRET/KEY"),
        ({"mem": "512 GB"}, {}, "a quantity"),
        ({"uid": 0}, {}, "1 or more"),
        ({"tolerations": ("gpu",)}, {}, "KEY=VALUE:EFFECT"),
        ({"queue": "My Queue"}, {}, "small letters"),
    ],
)
def test_what_the_cluster_would_refuse_is_refused_here(launcher, settings, job, message):
    with pytest.raises(InputError) as refused:
        launcher(**settings).check(command("evaluate", **job))
    assert message in str(refused.value) and "hunter2" not in str(refused.value)


def test_the_file_of_the_cluster_is_that_of_the_settings():
    shipped = site.compose_site(["cluster=kubernetes"], with_kept=False)["cluster"]
    shipped.pop("executor")
    assert read_settings(KubernetesSettings, shipped) == KubernetesSettings()
    with pytest.raises(ConfigError, match="'namespace'"):
        read_settings(KubernetesSettings, {"namepsace": "cosmos"})


def test_a_job_is_tried_then_created_then_found_again(launcher, cluster):
    made = launcher(context="dgx", namespace="cosmos")
    number = made.run(command("curate", nodes=2, devices=2)).number
    manifest = Path("outputs/kubernetes", f"{number}.yaml").absolute()
    assert cluster.words == [
        f"--context=dgx --namespace=cosmos {words}"
        for words in (
            "get persistentvolumeclaims runs --output=name",
            f"create --dry-run=server --output=name --filename={manifest}",
            "create --dry-run=server --output=name --filename=-",
            f"create --output=name --filename={manifest}",
        )
    ]
    assert yaml.safe_load(manifest.read_text())["metadata"]["name"] == number
    cluster.says("log", "0: Curating: 3 of 9 sources\n3: done\n 3: more\n")
    assert list(job_log(number, rank=3)) == ["done", "more"]
    assert cluster.words[-1].count(f"jobset-name={number},batch.kubernetes.io") == 1
    assert "job-completion-index=1" in cluster.words[-1]  # ranks 2 and 3 are those of the second


def a_set(name: str, **status: Any) -> dict[str, Any]:
    spec = {"suspend": status.pop("suspend", False)}
    return {"metadata": {"name": name}, "spec": spec, "status": status}


def a_pod(job_set: str, phase: str, **status: Any) -> dict[str, Any]:
    labels = {"jobset.sigs.k8s.io/jobset-name": job_set}
    node = {"nodeName": "gpu7"} if phase == "Running" else {}
    return {"metadata": {"labels": labels}, "spec": node, "status": {"phase": phase, **status}}


def said(kind: str, message: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": "True", "message": message}]}


PULL = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}
LATE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
}


@pytest.mark.parametrize(
    ("status", "phase", "pod", "word", "why"),
    [
        (said("Completed"), "Succeeded", {}, "done", ""),
        ({}, "Running", {}, "running", ""),
        ({"restarts": 2}, "Running", {}, "running", "started again 2 times"),
        ({}, "Pending", {"conditions": [LATE]}, "waiting", "3 Insufficient nvidia.com/gpu"),
        (
            {},
            "Pending",
            {"containerStatuses": [{"state": {"waiting": PULL}}]},
            "waiting",
            "cluster.container_image",
        ),
        ({"suspend": True}, "Pending", {}, "waiting", "queue"),
        (
            said("Failed", "jobset failed"),
            "Failed",
            {"containerStatuses": [{"state": {"terminated": {"exitCode": 2}}}]},
            "failed",
            "exit code 2: jobset failed",
        ),
    ],
)
def test_the_state_of_a_job_and_why_it_waits(launcher, cluster, status, phase, pod, word, why):
    number = launcher().run(command("curate")).number
    cluster.says("jobsets", [a_set(number, **status)])
    cluster.says("pods", [a_pod(number, phase, **pod), a_pod("another", "Running")])
    cluster.says("log", "0: Curating: 3 of 9 sources (33 %)\n")
    (row,) = list_jobs()
    assert (row["state"], row["on"]) == (word, "kubernetes")
    assert why in row["why"]
    assert row["nodes"] == ("gpu7" if phase == "Running" else "")


def test_one_run_of_a_sweep_is_cancelled_or_all(launcher, cluster):
    variants = [("lr=1", "log.name=a"), ("lr=2", "log.name=b")]
    number = launcher().run(command("pretrain", variants=variants)).number
    cluster.says("jobsets", [a_set(f"{number}-0"), a_set(f"{number}-1")])
    cluster.says("pods", [])
    assert cancel_job(f"{number}_1") == f"{number}_1"
    assert cluster.words[-1] == (
        f"delete jobsets {number}-1 --ignore-not-found --wait=false"
    )  # fmt: skip
    cancel_job(number)
    assert f"delete jobsets {number}-0 {number}-1 " in cluster.words[-1]
    cluster.says("jobsets", [])
    assert {row["state"] for row in list_jobs()} == {"cancelled"}


@pytest.mark.parametrize(
    ("verb", "words", "kind", "advice"),
    [
        (
            "get",
            'Error from server (NotFound): persistentvolumeclaims "runs" not found',
            ConfigError,
            "kubectl get pvc",
        ),
        ("create", 'error: no matches for kind "JobSet" in version "x"', ConfigError, "0.10.1"),
        (
            "create",
            'Error from server (Forbidden): jobsets is forbidden: User "me" cannot create',
            ConfigError,
            "auth can-i",
        ),
        ("create", 'Error: namespaces "cosmos" not found', ConfigError, "cluster.namespace"),
        ("create", "exceeded quota: gpus, requested: 16", ConfigError, "describe quota"),
        ("get", "error: You must be logged in to the server", ConfigError, "Log in"),
        ("get", "Please enter Username: error: EOF", ConfigError, "Log in"),
        ("get", 'error: context "dgx" does not exist', ConfigError, "get-contexts"),
        (
            "get",
            "The connection to the server localhost:8080 was refused - did you specify the right "
            "host or port?",
            ServiceError,
            "KUBECONFIG",
        ),
        ("get", "Unable to connect to the server: no such host", ServiceError, "cluster-info"),
    ],
)
def test_a_refusal_is_in_kubernetes_words(launcher, cluster, verb, words, kind, advice):
    cluster.says("refused", f"{verb} {words}\n")
    with pytest.raises(kind) as refused:
        launcher().run(command("curate"))
    assert words.removeprefix("error: ") in str(refused.value) and advice in str(refused.value)
    assert not read_records()


def test_who_may_not_look_at_claims_may_still_create(launcher, cluster):
    cluster.says("refused", 'get Error from server (Forbidden): "claims" is forbidden\n')
    assert launcher().run(command("curate")).number
    assert cluster.words[-1].startswith("create --output=name")


def test_without_kubectl_the_way_out_is_named(launcher, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no 'kubectl'.*--dryrun"):
        run_chain(
            [command("curate"), command("tokenize")],
            {"executor": "kubernetes", "container_image": IMAGE, "container_mounts": ["r:/runs"]},
        )
