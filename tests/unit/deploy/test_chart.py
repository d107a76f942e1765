"""The Helm chart: rendered by the real helm, and compared with the schemas of Kubernetes."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml
from referencing import Registry, Resource

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "nemo-cosmos"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
DRAFT = "https://json-schema.org/draft/2020-12/schema"
CRDS = {
    "JobSet": Path(__file__).parent / "crds" / "jobset.json",
    "RayJob": Path(__file__).parent / "crds" / "rayjob.json",
}
#: Values with which both parts of the chart run and every optional field is there.
EVERYTHING = {
    "storage": {
        "data": {"mountPath": "/data", "storageClass": "lustre"},
        "runs": {"mountPath": "/runs", "existingClaim": "runs"},
    },
    "env": {
        "AWS_REGION": "eu-central-1",
        "NCCL_BUFFSIZE": 16777216,
        "TOKENIZERS_PARALLELISM": False,
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
        "ENDPOINT": "http://host:9000/x",
    },
    "secrets": [{"name": "WANDB_API_KEY", "secret": "wandb", "key": "api-key"}],
    "imagePullSecrets": ["registry"],
    "networkPolicy": {"enabled": True, "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}]},
    "training": {
        "enabled": True,
        "image": {"repository": "registry.example.com:5000/cosmos", "tag": "0.1"},
        "command": "finetune",
        "factory": "diffusion_7b_video2world",
        "from": "/runs/world/export",
        "conf": ["parallel=tp8_cp2"],
        "overrides": ["data.path=/data/latents", "optim.config.lr=1e-6"],
        "nodes": 4,
        "extraResources": {"rdma/ib": 8},
        "env": {"NCCL_SOCKET_IFNAME": "eth0", "AWS_REGION": "eu-west-1"},
        "activeDeadlineSeconds": 3600,
        "queue": "research",
        "topologyKey": "topology.kubernetes.io/zone",
        "priorityClassName": "high",
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "podAnnotations": {"k8s.v1.cni.cncf.io/networks": "ib"},
    },
    "curation": {
        "enabled": True,
        "image": {"repository": "registry.example.com/cosmos", "digest": "sha256:" + "0a" * 32},
        "input": "/data/it's raw",
        "args": ["--caption-prompt", '$(touch /tmp/x) "quoted"'],
        "workers": {"replicas": 3, "gpus": 1},
        "activeDeadlineSeconds": 3600,
        "priorityClassName": "low",
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"operator": "Exists"}],
        "podAnnotations": {"note": "x"},
    },
    "api": {
        "enabled": True,
        "image": {"repository": "registry.example.com/server", "tag": "0.1"},
        "command": ["/opt/venv/bin/python", "-m", "server", "--world", "/runs/it's ours"],
        "gpus": 2,
        "env": {"NCCL_BUFFSIZE": 16777216},
        "clients": [{"namespaceSelector": {"matchLabels": {"team": "robots"}}}],
        "autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 8},
        "nodeSelector": {"nvidia.com/gpu.present": "true"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "podAnnotations": {"prometheus.io/scrape": "true"},
    },
}


@pytest.fixture
def render(helm, tmp_path):
    """Render values, a dictionary or a file, to objects by ``Kind/name``."""

    def run(values, *words):
        path = values
        if isinstance(values, dict):
            path = tmp_path / "values.yaml"
            path.write_text(json.dumps(values))  # quotes all that is text
        result = helm("template", "trial", CHART, "--values", path, *words)
        assert result.returncode == 0, result.stderr
        objects = [each for each in yaml.safe_load_all(result.stdout) if each]
        named = {f"{each['kind']}/{each['metadata']['name']}": each for each in objects}
        assert len(named) == len(objects)
        return named

    return run


@pytest.fixture
def check_object(kubernetes_schemas):
    """Compare an object with its schema, which refuses unknown fields."""
    definitions = json.loads((kubernetes_schemas / "_definitions.json").read_text())
    registry = Registry().with_resource(
        "/api/_definitions.json", Resource.from_contents(definitions | {"$schema": DRAFT})
    )

    def check(each):
        api = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", each["apiVersion"])
        own = kubernetes_schemas / f"{each['kind'].lower()}-{api}.json"
        path = CRDS.get(each["kind"], own)
        schema = json.loads(path.read_text())
        jsonschema.Draft202012Validator(schema, registry=registry).validate(each)

    return check


def pods_of(objects):
    """Pod templates of all objects, by a name."""
    found = {}
    for name, each in objects.items():
        spec = each.get("spec", {})
        if each["kind"] == "JobSet":
            for job in spec["replicatedJobs"]:
                found[f"{name}/{job['name']}"] = job["template"]["spec"]["template"]
        if each["kind"] == "Deployment":
            found[name] = spec["template"]
        if each["kind"] == "RayJob":
            cluster = spec["rayClusterSpec"]
            found[f"{name}/submitter"] = spec["submitterPodTemplate"]
            found[f"{name}/head"] = cluster["headGroupSpec"]["template"]
            for group in cluster["workerGroupSpecs"]:
                found[f"{name}/{group['groupName']}"] = group["template"]
    return found


def test_lint(helm):
    for example in EXAMPLES:
        result = helm("lint", "--strict", CHART, "--values", example)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("values", [*EXAMPLES, EVERYTHING], ids=lambda v: getattr(v, "stem", "all"))
def test_objects_fit_their_schemas(render, check_object, values):
    for each in render(values).values():
        check_object(each)


def test_the_schemas_notice_a_wrong_object(render, check_object):
    objects = render(EVERYTHING)
    for kind, path in (
        ("JobSet/trial-train", "spec.failurePolicy.maxRestarts"),
        ("JobSet/trial-train", "spec.replicatedJobs.0.template.spec.completions"),
        ("RayJob/trial-curate", "spec.rayClusterSpec.workerGroupSpecs.0.replicas"),
        ("NetworkPolicy/trial-training", "spec.podSelector"),
        ("Deployment/trial-api", "spec.template.spec.terminationGracePeriodSeconds"),
        ("HorizontalPodAutoscaler/trial-api", "spec.metrics.0.external.metric"),
        ("PodDisruptionBudget/trial-api", "spec.selector"),
    ):
        *parents, last = path.split(".")
        for fault in ("type", "unknown"):
            wrong = json.loads(json.dumps(objects[kind]))
            place = wrong
            for name in parents:
                place = place[int(name) if name.isdigit() else name]
            place[last if fault == "type" else "nosuchfield"] = "three"
            with pytest.raises(jsonschema.ValidationError):
                check_object(wrong)


def test_every_pod_is_confined(render):
    objects = render(EVERYTHING)
    pods = pods_of(objects)
    assert set(pods) == {
        "JobSet/trial-train/node",
        "Deployment/trial-api",
        *(f"RayJob/trial-curate/{role}" for role in ("submitter", "head", "workers")),
    }
    for name, pod in pods.items():
        spec = pod["spec"]
        security = spec["securityContext"]
        assert security["runAsNonRoot"] and security["runAsUser"] > 0, name
        assert spec["automountServiceAccountToken"] is False, name
        assert f"ServiceAccount/{spec['serviceAccountName']}" in objects, name
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"], name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"] == container["resources"]["requests"], name
            volumes = {volume["name"] for volume in spec["volumes"]}
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes, name
            written = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert {"/tmp", "/scratch", "/dev/shm", "/data", "/runs"} == written, name
            names = [variable["name"] for variable in container["env"]]
            assert len(names) == len(set(names)), name
            (key,) = [each for each in container["env"] if each["name"] == "WANDB_API_KEY"]
            assert key["valueFrom"] == {"secretKeyRef": {"name": "wandb", "key": "api-key"}}


def test_policies_choose_every_pod(render):
    objects = render(EVERYTHING)
    policies = [each["spec"] for each in objects.values() if each["kind"] == "NetworkPolicy"]
    for name, pod in pods_of(objects).items():
        labels = pod["metadata"]["labels"].items()
        chosen = [each for each in policies if each["podSelector"]["matchLabels"].items() <= labels]
        assert len(chosen) == 1, name
        assert chosen[0]["policyTypes"] == ["Ingress", "Egress"]
        peers = chosen[0]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
        assert peers.items() <= labels, name
    off = render(EVERYTHING, "--set", "networkPolicy.enabled=false")
    assert not [each for each in off.values() if each["kind"] == "NetworkPolicy"]


def test_ranks_find_each_other(render):
    objects = render(EVERYTHING)
    job_set = objects["JobSet/trial-train"]
    (job,) = job_set["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert spec["completions"] == spec["parallelism"] == 4
    (container,) = spec["template"]["spec"]["containers"]
    words = container["args"]
    # What JobSet calls the first pod: SET-JOB-INDEX-POD, in a service with the name of the set.
    assert f"--master-addr=trial-train-{job['name']}-0-0.trial-train" in words
    assert {"--nnodes=4", "--nproc-per-node=8", "--node-rank=$(POD_INDEX)"} <= set(words)
    assert {"trainer.num_nodes=4", "trainer.devices=8"} <= set(words)
    assert (
        container["resources"]["limits"] | {"nvidia.com/gpu": 8, "rdma/ib": 8}
        == (container["resources"]["limits"])
    )
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert env["AWS_REGION"] == "eu-west-1"  # the part's own wins
    assert (env["NCCL_BUFFSIZE"], env["TOKENIZERS_PARALLELISM"]) == ("16777216", "false")


def test_the_words_of_the_training_are_words_of_our_command(render):
    from nemo_cosmos.launch import configure_recipe
    from nemo_cosmos.site import compose_site

    objects = render(CHART / "examples" / "nano-cpu.yaml")
    (pod,) = pods_of(objects).values()
    words = pod["spec"]["containers"][0]["args"]
    assert words[words.index("-m") + 1] == "nemo_cosmos"
    command, flag, factory, *rest = words[words.index("nemo_cosmos") + 1 :]
    assert (command, flag) == ("pretrain", "--factory")
    conf = [rest[index + 1] for index, word in enumerate(rest) if word == "--conf"]
    overrides = [word for word in rest if word != "--conf" and word not in conf]
    recipe = configure_recipe(factory, overrides, compose_site(conf, with_kept=False), False)
    assert (recipe.trainer.num_nodes, recipe.trainer.devices) == (1, 1)
    assert recipe.log.log_dir == "/runs"
    assert recipe.data.path == "/data/latents"
    assert "nvidia.com/gpu" not in pod["spec"]["containers"][0]["resources"]["limits"]


def test_evictions_restart_a_run_and_do_not_count(render):
    spec = render(EVERYTHING)["JobSet/trial-train"]["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert [each["type"] for each in rule["onPodConditions"]] == ["DisruptionTarget"]
    answer, deadline = spec["failurePolicy"]["rules"]
    assert answer["onJobFailureReasons"] == ["PodFailurePolicy"]  # what FailJob is reported as
    assert answer["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert deadline["onJobFailureReasons"] == ["DeadlineExceeded"]
    assert deadline["action"] == "FailJobSet"
    # Kubernetes takes a pod failure policy only with these.
    assert job["backoffLimit"] == 0 and job["template"]["spec"]["restartPolicy"] == "Never"


def test_words_of_the_curation_pass_a_shell_unchanged(render):
    job = render(EVERYTHING)["RayJob/trial-curate"]["spec"]
    words = shlex.split(job["entrypoint"])
    assert words == [
        "/usr/local/bin/python", "-m", "nemo_cosmos", "curate", "/data/it's raw", "/data/curated",
        "--executor", "ray", "--address", "auto", "--caption-prompt", "$(touch /tmp/x) \"quoted\"",
    ]  # fmt: skip
    cluster = job["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    (group,) = cluster["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == 3
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == 1
    assert cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] == (
        "registry.example.com/cosmos@sha256:" + "0a" * 32
    )


def test_claims_stay_and_existing_ones_are_not_made(render):
    objects = render(EVERYTHING)
    claims = {name: each for name, each in objects.items() if "Claim" in name}
    assert list(claims) == ["PersistentVolumeClaim/trial-data"]
    (claim,) = claims.values()
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["spec"]["storageClassName"] == "lustre"
    for pod in pods_of(objects).values():
        named = {
            each["name"]: each["persistentVolumeClaim"]["claimName"]
            for each in pod["spec"]["volumes"]
            if "persistentVolumeClaim" in each
        }
        assert named == {"data": "trial-data", "runs": "runs"}


def test_names_that_look_like_numbers_stay_names(render, check_object):
    storage = {"data": {"existingClaim": "1e5"}, "runs": {"storageClass": "123"}}
    training = {"queue": "0x1", "priorityClassName": "007", "from": "", "command": "pretrain"}
    values = EVERYTHING | {"storage": storage, "training": EVERYTHING["training"] | training}
    for each in render(values).values():
        check_object(each)


def test_a_server_scales_by_its_queue_and_leaves_one_pod_at_a_time(render):
    objects = render(EVERYTHING)
    deployment = objects["Deployment/trial-api"]["spec"]
    pod_labels = deployment["template"]["metadata"]["labels"]
    for name in ("Service", "PodDisruptionBudget"):
        chosen = objects[f"{name}/trial-api"]["spec"]["selector"]
        assert chosen.get("matchLabels", chosen).items() <= pod_labels.items()
    assert deployment["selector"]["matchLabels"].items() <= pod_labels.items()
    assert "replicas" not in deployment  # the autoscaler's, which an upgrade must not reset
    assert objects["PodDisruptionBudget/trial-api"]["spec"]["maxUnavailable"] == 1
    scaler = objects["HorizontalPodAutoscaler/trial-api"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 8)
    assert scaler["scaleTargetRef"]["name"] == "trial-api"
    (metric,) = scaler["metrics"]
    assert metric["external"]["metric"]["name"] == "nemo_cosmos_queue_length"
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["command"] == EVERYTHING["api"]["command"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert container["startupProbe"]["failureThreshold"] == 60  # ten minutes to load in
    ingress = objects["NetworkPolicy/trial-api"]["spec"]["ingress"]
    assert ingress[1]["from"] == EVERYTHING["api"]["clients"]
    assert ingress[1]["ports"] == [{"port": 8000, "protocol": "TCP"}]
    fixed = render(EVERYTHING, "--set", "api.autoscaling.enabled=false,api.replicas=3")
    assert fixed["Deployment/trial-api"]["spec"]["replicas"] == 3
    assert "HorizontalPodAutoscaler/trial-api" not in fixed


def test_manifests_of_the_launcher_fit_the_same_schemas(check_object, tmp_path, monkeypatch):
    from nemo_cosmos.launch import Job, KubernetesLauncher, KubernetesSettings, Resources

    monkeypatch.setenv("NEMO_COSMOS_SITE", str(tmp_path / "site.txt"))
    (tmp_path / "site.txt").write_text("storage.outputs=/runs\n")
    least = {"container_image": "registry/x:1", "container_mounts": ("runs:/runs",)}
    most = {
        "namespace": "cosmos",
        "image_pull_secrets": ("registry",),
        "extra_resources": {"rdma/ib": "8"},
        "service_account": "runner",
        "queue": "research",
        "priority_class": "high",
        "node_selector": {"gpu": "h100", "nvidia.com/gpu.present": "true"},
        "tolerations": ("nvidia.com/gpu:NoSchedule", "team=robots:NoExecute", ":NoSchedule"),
        "topology_key": "topology.kubernetes.io/zone",
        "annotations": {"k8s.v1.cni.cncf.io/networks": "ib"},
        "interface": "eth0",
        "env_vars": {"NCCL_BUFFSIZE": "16777216", "ON": "yes"},
        "secrets": {"WANDB_API_KEY": "wandb/api-key"},
        "time_limit_s": 3600,
    }
    words = ("generate", 'it\'s: {a} # "b"', "--prompt", "$(HOME) \\ \n- x")
    job = Job("Generate 7B!", None, words, Resources(4, 8), retries=2, env={"A": "1e5"})
    sweep = Job("pretrain", None, ("pretrain",), variants=[("lr=1",), ("lr=2",)])
    for more in ({}, most, {"gpus_per_node": 0}):
        launcher = KubernetesLauncher(KubernetesSettings(**{**least, **more}))
        for script in (
            launcher.script(job),
            launcher.script(sweep),
            launcher.chain_script([job, replace(sweep, variants=()), job]),
        ):
            for each in yaml.safe_load_all(script):
                check_object(each)
