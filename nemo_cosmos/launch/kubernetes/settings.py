"""What a Kubernetes cluster's file may say, and what is looked at before a job is submitted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch.environment import fabric_variables
from nemo_cosmos.launch.job import Job
from nemo_cosmos.launch.secrets import check_no_secrets
from nemo_cosmos.launch.settings import (
    check_image,
    check_least,
    check_machines,
    check_variables,
)

IMAGE_PYTHON = "/opt/venv/bin/python"
#: Where the container writes besides the mounts: its root file system is read-only.
SCRATCH, TMP, SHARED_MEMORY = "/scratch", "/tmp", "/dev/shm"
_OWN_FOLDERS = (SCRATCH, TMP, SHARED_MEMORY, "/dev", "/proc", "/opt", "/usr", "/")
_QUANTITY = re.compile(r"\d+(\.\d+)?([EPTGMk]i?|Ki|m)?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_SECRET = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[-._a-zA-Z0-9]+")
_TOLERATION = re.compile(r"([\w./-]+(=[\w.-]+)?)?:(NoSchedule|PreferNoSchedule|NoExecute)")
_SECRET_WAY = (
    "Put the value into a Secret ('kubectl create secret generic NAME --from-literal=KEY=VALUE') "
    'and write cluster.secrets={{{name}: "NAME/KEY"}} into the cluster\'s file.'
)


@dataclass(frozen=True, kw_only=True)
class KubernetesSettings:
    """The keys of ``conf/cluster/kubernetes.yaml``; None leaves a choice to the cluster.

    Attributes:
        context: the cluster of kubectl's settings; by default its current one.
        namespace: the namespace; by default the context's.
        container_image: the image of every pod, which must hold this package.
        image_pull_secrets: names of Secrets with which the image is pulled.
        python: the image's interpreter.
        work_dir: the folder in which commands run; relative paths of a command start there.
        container_mounts: ``CLAIM:/CONTAINER_PATH`` of claims that every job sees.
        max_nodes: the most machines that a job may have.
        gpus_per_node: GPUs of a machine; 0 trains on the CPU.
        gpu_resource: what the GPU operator calls a GPU.
        cpus: cores of a pod.
        mem: memory of a pod.
        extra_resources: further resources of a pod, such as ``{rdma/ib: 8}``.
        shared_memory: size of ``/dev/shm``, which counts as the pod's memory.
        scratch: size of ``/tmp`` and of the home folder.
        uid: the user of every container; root is refused.
        gid: its group, for which volumes are writable.
        service_account: the account of every pod; by default the namespace's.
        queue: a LocalQueue of Kueue.
        priority_class: the priority of every pod.
        node_selector: labels that the machines must have.
        tolerations: taints that are tolerated, ``KEY=VALUE:EFFECT`` or ``KEY:EFFECT``.
        topology_key: the label of one domain in which all machines must be.
        annotations: annotations of every pod, such as those of a second network.
        interface: the network interface that processes meet through.
        ib_devices: InfiniBand devices of the compute network, such as ``mlx5_0,mlx5_3``.
        env_vars: environment variables of every job, besides those of its layout, which they
            replace.
        secrets: variables that are read from Secrets of the namespace, as ``SECRET/KEY``.
        retries: how often a job starts again after a failure; evictions do not count.
        time_limit_s: how long a job may run, in seconds; 0 for no limit.
        save_s: how long a job may take to save when its pods must go, in seconds.
        keep_s: how long an ended job is kept, with its logs, in seconds.
        job_dir: folder of manifests on this machine.

    Raises:
        ConfigError: a name, size or number that Kubernetes does not take.
    """

    context: str | None = None
    namespace: str | None = None
    container_image: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    python: str = IMAGE_PYTHON
    work_dir: str = "/runs"
    container_mounts: tuple[str, ...] = ()
    max_nodes: int | None = None
    gpus_per_node: int = 8
    gpu_resource: str = "nvidia.com/gpu"
    cpus: str = "32"
    mem: str = "512Gi"
    extra_resources: Mapping[str, str] = field(default_factory=dict)
    shared_memory: str = "64Gi"
    scratch: str = "50Gi"
    uid: int = 1000
    gid: int = 1000
    service_account: str | None = None
    queue: str | None = None
    priority_class: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[str, ...] = ()
    topology_key: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    interface: str | None = None
    ib_devices: str | None = None
    env_vars: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    retries: int = 3
    time_limit_s: int = 0
    save_s: int = 300
    keep_s: int = 604800
    job_dir: str = "outputs/kubernetes"

    def __post_init__(self) -> None:
        """Check what types do not say."""
        check_least(
            self,
            max_nodes=1,
            gpus_per_node=0,
            uid=1,
            gid=1,
            retries=0,
            time_limit_s=0,
            save_s=1,
            keep_s=0,
        )
        sizes = {name: getattr(self, name) for name in ("cpus", "mem", "shared_memory", "scratch")}
        sizes |= {f"extra_resources.{name}": size for name, size in self.extra_resources.items()}
        for name, size in sizes.items():
            _check_form(name, size, _QUANTITY, 'a quantity, such as "32", "500m" or "512Gi"')
        names = ("namespace", "service_account", "queue", "priority_class")
        for name in names:
            if (value := getattr(self, name)) is not None:
                _check_form(name, value, _NAME, "a name of small letters, digits and '-'")
        for name, value in self.secrets.items():
            _check_form(f"secrets.{name}", value, _SECRET, "SECRET/KEY")
        for value in self.tolerations:
            _check_form(
                "tolerations", value, _TOLERATION, "KEY=VALUE:EFFECT or KEY:EFFECT, with the "
                "effect NoSchedule, PreferNoSchedule or NoExecute"
            )  # fmt: skip
        if not self.work_dir.startswith("/"):
            raise ConfigError(
                f"cluster.work_dir is '{self.work_dir}'; it must be a folder of the container that "
                "begins with '/'."
            )

    @property
    def variables(self) -> dict[str, str]:
        """The site's environment variables: those of its network, and its own."""
        return {**fabric_variables(self.interface, self.ib_devices), **self.env_vars}

    @property
    def job_folder(self) -> Path:
        """The folder of manifests."""
        return Path(self.job_dir).absolute()

    def claims(self, job: Job) -> dict[str, str]:
        """Return the claims of a job by the folder where the container sees each."""
        mounts = [mount.partition(":") for mount in (*self.container_mounts, *job.mounts)]
        return {folder: claim for claim, _, folder in mounts}


def check_kubernetes_job(settings: KubernetesSettings, job: Job) -> None:
    """Refuse what the cluster would refuse later, as far as it can be seen here.

    Raises:
        ConfigError: no image, too many machines or devices, a wrong mount, or a secret that would
            be written into the manifest.
    """
    if settings.container_image is None:
        raise ConfigError(
            "cluster.container_image is not set, and a pod needs an image that holds nemo_cosmos. "
            "Build ours from the Dockerfile, push it to a registry that the cluster reaches, and "
            "give --conf cluster.container_image=REGISTRY/nemo-cosmos:TAG or keep it with "
            "'nemo-cosmos configure'."
        )
    check_image(settings.container_image)
    check_machines(job, settings.max_nodes, settings.gpus_per_node)
    check_variables(dict.fromkeys(settings.secrets, ""))
    check_no_secrets(job, settings.env_vars, _SECRET_WAY)
    for mount in (*settings.container_mounts, *job.mounts):
        claim, _, folder = mount.partition(":")
        if not _NAME.fullmatch(claim) or not folder.startswith("/") or ":" in folder:
            raise ConfigError(
                f"The mount '{mount}' is not of the form CLAIM:/CONTAINER_PATH, where CLAIM is the "
                "name of a PersistentVolumeClaim; 'kubectl get pvc' lists them."
            )
        if folder.rstrip("/") in _OWN_FOLDERS or folder == "/":
            raise ConfigError(
                f"The mount '{mount}' hides '{folder}', which the container needs for itself; "
                "choose another folder."
            )
    folders = [mount.partition(":")[2] for mount in (*settings.container_mounts, *job.mounts)]
    if len(set(folders)) < len(folders):
        raise ConfigError(
            f"cluster.container_mounts and the job's mounts name a folder twice: "
            f"{', '.join(folders)}. Give each claim a folder of its own."
        )
    _check_work_dir(settings, folders)


def _check_work_dir(settings: KubernetesSettings, folders: list[str]) -> None:
    """Require that what a job writes outlives its pod."""
    inside = (f"{folder.rstrip('/')}/" for folder in folders)
    if not any(f"{settings.work_dir.rstrip('/')}/".startswith(folder) for folder in inside):
        raise ConfigError(
            f"cluster.work_dir is '{settings.work_dir}', which no mount covers: what a job writes "
            "would go with its pod. Mount a claim there, such as "
            f"cluster.container_mounts=[CLAIM:{settings.work_dir}], or set cluster.work_dir to a "
            "folder of a mount."
        )


def _check_form(name: str, value: str, form: re.Pattern[str], wanted: str) -> None:
    if not form.fullmatch(value):
        raise ConfigError(f"cluster.{name} is '{value}'; it must be {wanted}.")
