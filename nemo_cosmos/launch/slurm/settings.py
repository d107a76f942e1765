"""What a Slurm cluster's file may say, and what is looked at before a job is submitted."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nemo_cosmos.errors import ConfigError, MissingFileError
from nemo_cosmos.launch.environment import fabric_variables
from nemo_cosmos.launch.job import Job
from nemo_cosmos.launch.secrets import check_no_secrets
from nemo_cosmos.launch.settings import (
    check_image,
    check_least,
    check_machines,
    check_variables,
)

_TIME = re.compile(r"\d+(:[0-5]\d){0,2}|\d+-\d+(:[0-5]\d){0,2}|UNLIMITED|INFINITE")
#: Options of sbatch that scripts set and rely on, and what sets them.
_OWN_OPTIONS = {
    **{
        name: f"cluster.{name}"
        for name in ("account", "partition", "qos", "reservation", "constraint", "time", "mem")
    },
    "exclusive": "cluster.exclusive",
    "gpus-per-node": "cluster.gpus_per_node",
    "cpus-per-task": "cluster.cpus_per_task",
    "nodes": "--nodes",
    "ntasks": "--nodes and --devices",
    "ntasks-per-node": "--devices",
    "array": "--sweep",
    "output": "cluster.job_dir",
    "error": "cluster.job_dir",
    "open-mode": "cluster.job_dir",
    "chdir": "the folder that you submit from",
    "signal": "cluster.save_before_end_s",
    "requeue": "cluster.retries",
    "no-requeue": "cluster.retries=0 and cluster.save_before_end_s=0",
}
_IMAGE_PYTHON = "/opt/venv/bin/python"
_SECRET_WAY = (
    "Name it in cluster.secrets=[{name}] instead, and set it in the shell that submits the job."
)
#: What enroot takes before the name of an image: ``docker://USER@``.
_BEFORE_IMAGE = re.compile(r"^(\w+://)?([^@#/]+@(?!sha256))?")


@dataclass(frozen=True, kw_only=True)
class SlurmSettings:
    """The keys of ``conf/cluster/slurm.yaml``; None leaves a choice to the cluster.

    Attributes:
        account: the account that is charged.
        partition: the queue.
        qos: the quality of service.
        reservation: a reservation to run in.
        constraint: features that the machines must have.
        time: the time limit, as Slurm writes it: ``HH:MM:SS`` or ``D-HH:MM:SS``.
        max_nodes: the most machines that a job may have.
        gpus_per_node: GPUs of a machine; 0 where Slurm counts none.
        cpus_per_task: cores of each process.
        mem: memory of a machine; ``"0"`` takes all of it.
        exclusive: whether a job has its machines to itself.
        sbatch: further options of sbatch by name, such as ``{licenses: "fs:1"}``; an empty value
            makes a flag.
        container_image: the image of every process, which must hold this package; without one, jobs
            run in a Python environment that all machines see.
        container_mounts: ``HOST_PATH:CONTAINER_PATH`` of folders that every job sees, besides the
            working folder and that of logs.
        python: the interpreter; by default that of our image in a container, else this one.
        setup: lines of shell that every script runs first, such as ``module load cuda``.
        interface: the network interface that processes meet through.
        ib_devices: InfiniBand devices of the compute network, such as ``mlx5_0,mlx5_3``.
        env_vars: environment variables of every job, besides those of its layout
            (:mod:`nemo_cosmos.platform.gpu_environment`), which they replace.
        secrets: names of variables that a job needs from the shell that submits it.
        retries: how often a job starts again after failures in a row.
        save_before_end_s: how long before its time is up a job that can be resumed is asked to
            save, in seconds; then it goes back into the queue. 0 lets it end. Of a short limit it
            is half at most.
        min_nodes: the fewest machines that a job starts with, where not all it asks for are left;
            of the numbers between, those that its layout fits. None waits for all of them.
        sweep_at_once: the most runs of a sweep at a time.
        check_paths: whether this machine sees the paths above, so that a missing one is refused.
        job_dir: folder of scripts and logs, which all machines see.

    Raises:
        ConfigError: a time that Slurm does not read, or a number that is too small.
    """

    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    reservation: str | None = None
    constraint: str | None = None
    time: str = "04:00:00"
    max_nodes: int | None = None
    gpus_per_node: int = 8
    cpus_per_task: int | None = None
    mem: str | None = "0"
    exclusive: bool = True
    sbatch: Mapping[str, str] = field(default_factory=dict)
    container_image: str | None = None
    container_mounts: tuple[str, ...] = ()
    python: str | None = None
    setup: tuple[str, ...] = ()
    interface: str | None = None
    ib_devices: str | None = None
    env_vars: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    retries: int = 2
    save_before_end_s: int = 120
    min_nodes: int | None = None
    sweep_at_once: int | None = None
    check_paths: bool = True
    job_dir: str = "outputs/slurm"

    def __post_init__(self) -> None:
        """Check what types do not say."""
        if not _TIME.fullmatch(self.time):
            raise ConfigError(
                f"cluster.time is '{self.time}', which Slurm does not read. Write minutes, "
                '"HH:MM:SS" or "D-HH:MM:SS".'
            )
        for name in self.sbatch:
            if name in _OWN_OPTIONS:
                raise ConfigError(
                    f"cluster.sbatch sets '{name}', which jobs here set themselves. Use "
                    f"{_OWN_OPTIONS[name]} instead."
                )
        check_least(
            self,
            max_nodes=1,
            gpus_per_node=0,
            cpus_per_task=1,
            retries=0,
            save_before_end_s=0,
            min_nodes=1,
            sweep_at_once=1,
        )

    @property
    def variables(self) -> dict[str, str]:
        """The site's environment variables: those of its network, and its own."""
        return {**fabric_variables(self.interface, self.ib_devices), **self.env_vars}

    @property
    def signal_s(self) -> int:
        """How long before its time is up a job is asked to save; 0 for never."""
        limit_s = _seconds(self.time)
        return (
            self.save_before_end_s if limit_s is None else min(self.save_before_end_s, limit_s // 2)
        )

    @property
    def job_folder(self) -> Path:
        """The folder of scripts and logs."""
        return Path(self.job_dir).absolute()

    def mounts(self, job: Job) -> list[str]:
        """Return all mounts of a job's container.

        Relative paths of its command must mean the same inside: the working folder is there, and
        the folder that holds the site's settings.
        """
        own = [f"{folder}:{folder}" for folder in (Path.cwd(), self.job_folder)]
        return list(dict.fromkeys([*self.container_mounts, *job.mounts, *own]))


def _seconds(time: str) -> int | None:
    """The seconds of a time limit as Slurm writes it; None for no limit."""
    days, dash, clock = time.rpartition("-")
    if not clock[0].isdigit():
        return None
    parts = [int(part) for part in clock.split(":")]
    if dash:  # D-HH:MM:SS, of which the end may be missing
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds
    # MM, MM:SS or HH:MM:SS
    hours, minutes, seconds = {1: (0, *parts, 0), 2: (0, *parts), 3: tuple(parts)}[len(parts)]
    return (hours * 60 + minutes) * 60 + seconds


def check_slurm_job(settings: SlurmSettings, job: Job) -> None:
    """Refuse what Slurm or its machines would refuse later, as far as it can be seen here.

    Raises:
        ConfigError: too many machines or devices, a wrong mount, or a secret that would be written
            into the script.
        MissingFileError: a path that is not there.
    """
    check_machines(job, settings.max_nodes, settings.gpus_per_node)
    check_variables(dict.fromkeys(settings.secrets, ""))
    check_no_secrets(job, settings.env_vars, _SECRET_WAY, settings.setup)
    image = settings.container_image
    if image is not None and not _is_file(image):
        check_image(_BEFORE_IMAGE.sub("", image))
    for mount in (*settings.container_mounts, *job.mounts):
        _check_mount(mount, settings.check_paths)
    if settings.check_paths:
        _check_there(settings)


def check_secrets_are_set(settings: SlurmSettings) -> None:
    """Require the secrets of a job in this process, whose environment sbatch takes along.

    Raises:
        ConfigError: names those that are not set.
    """
    missing = [name for name in settings.secrets if name not in os.environ]
    if missing:
        raise ConfigError(
            f"cluster.secrets names {', '.join(missing)}, which this shell does not set; the job "
            "would end at once. Export it here, or take it out of cluster.secrets."
        )


def interpreter(settings: SlurmSettings, here: str) -> str:
    """Return the Python that runs the job.

    Args:
        settings: the cluster's.
        here: the Python of this process.
    """
    if settings.python:
        return settings.python
    return _IMAGE_PYTHON if settings.container_image else here


def _check_mount(mount: str, on_this_machine: bool) -> None:
    host, colon, inside = mount.partition(":")
    if not colon or not host or not inside.startswith("/") or "," in mount:
        raise ConfigError(
            f"The mount '{mount}' is not of the form HOST_PATH:/CONTAINER_PATH, without commas."
        )
    if on_this_machine and not Path(host).exists():
        raise MissingFileError(
            f"The mount '{mount}' begins with a path that is not there. Correct it; or where only "
            "the cluster's machines have it, set cluster.check_paths=false."
        )


def _is_file(image: str) -> bool:
    """Whether an image lies in a file, as ``enroot import`` writes it."""
    return image.startswith(("/", ".")) or image.endswith(".sqsh")


def _check_there(settings: SlurmSettings) -> None:
    """Require an image in a file, and an interpreter outside of containers."""
    image, python = settings.container_image, settings.python
    paths: dict[str, str | None] = {}
    if image is not None and _is_file(image):
        paths["container_image"] = image
    if image is None and python is not None and "/" in python:
        paths["python"] = python
    for name, path in paths.items():
        if path is not None and not Path(path).exists():
            raise MissingFileError(
                f"cluster.{name} is '{path}', which is not there. Correct it; or where only the "
                "cluster's machines have it, set cluster.check_paths=false."
            )
        if path is not None and not Path(path).is_file():
            raise ConfigError(f"cluster.{name} is '{path}', a folder; it must be a file.")
    if "python" in paths and not os.access(str(python), os.X_OK):
        raise ConfigError(
            f"cluster.python is '{python}', which is no program. Name the interpreter of an "
            "environment, such as '/shared/venv/bin/python'."
        )
