"""The choice of the launcher that runs a job at this site."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.launch.job import Job, Launcher
from nemo_cosmos.launch.kubernetes.launcher import KubernetesLauncher
from nemo_cosmos.launch.kubernetes.settings import KubernetesSettings
from nemo_cosmos.launch.local import LocalLauncher
from nemo_cosmos.launch.ray.launcher import RayLauncher
from nemo_cosmos.launch.ray.settings import RaySettings
from nemo_cosmos.launch.settings import LocalSettings, check_variables, read_settings
from nemo_cosmos.launch.slurm.launcher import SlurmLauncher
from nemo_cosmos.launch.slurm.settings import SlurmSettings
from nemo_cosmos.launch.torchrun import TorchrunLauncher
from nemo_cosmos.platform.ranks import is_rank


def _on_this_machine(job: Job, settings: Mapping[str, Any]) -> Launcher:
    if job.resources.num_processes > 1:
        return _through_torchrun(job, settings)
    return LocalLauncher(env_vars=_variables(settings))


def _through_torchrun(job: Job, settings: Mapping[str, Any]) -> Launcher:
    return TorchrunLauncher(_variables(settings))


def _variables(settings: Mapping[str, Any]) -> Mapping[str, str]:
    env_vars = read_settings(LocalSettings, settings).env_vars
    check_variables(env_vars)
    return env_vars


def _on_slurm(job: Job, settings: Mapping[str, Any]) -> Launcher:
    return SlurmLauncher(read_settings(SlurmSettings, settings))


def _on_kubernetes(job: Job, settings: Mapping[str, Any]) -> Launcher:
    return KubernetesLauncher(read_settings(KubernetesSettings, settings))


def _on_ray(job: Job, settings: Mapping[str, Any]) -> Launcher:
    return RayLauncher(read_settings(RaySettings, settings))


#: Launchers by the key ``executor`` of a file in ``conf/cluster/``; called with the job and the
#: file's other keys.
LAUNCHERS: dict[str, Callable[[Job, Mapping[str, object]], Launcher]] = {
    "local": _on_this_machine,
    "torchrun": _through_torchrun,
    "slurm": _on_slurm,
    "kubernetes": _on_kubernetes,
    "ray": _on_ray,
}


def runs_here(cluster: Mapping[str, Any]) -> bool:
    """Whether jobs of a cluster run on this machine, whose folders they see.

    Args:
        cluster: the site's ``cluster`` group.
    """
    return cluster.get("executor") in ("local", "torchrun")


def launcher_for(job: Job, cluster: Mapping[str, Any]) -> Launcher:
    """Choose the launcher that the site names; a job's own process runs it here.

    Args:
        job: what runs.
        cluster: the site's ``cluster`` group.

    Raises:
        ConfigError: there is no such launcher, or a setting of it is wrong.
    """
    settings = dict(cluster)
    name = settings.pop("executor", None)
    if name is None:
        raise ConfigError(
            "The cluster's file does not say what runs jobs there: give it 'executor: NAME', one "
            f"of {', '.join(LAUNCHERS)}, or let it begin with 'defaults: [NAME]'."
        )
    if name not in LAUNCHERS:
        raise ConfigError(
            f"There is no executor '{name}' for cluster.executor. The nearest are "
            f"{nearest_names(name, LAUNCHERS)}."
        )
    if is_rank():  # a rank that launched its job again would do so for ever
        return LocalLauncher(is_rank=True)
    return LAUNCHERS[name](job, settings)
