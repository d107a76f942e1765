"""Where the work on sources runs; one file each."""

from __future__ import annotations

from data_curation.executors.base import Executor
from data_curation.executors.inline import InlineExecutor
from data_curation.executors.processes import ProcessExecutor
from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.platform.dependencies import require

__all__ = ["EXECUTORS", "Executor", "InlineExecutor", "ProcessExecutor", "build_executor"]

EXECUTORS = ("inline", "processes", "ray")


def build_executor(
    name: str,
    num_workers: int | None = None,
    max_memory_gb: float = 0.0,
    address: str = "local",
    min_workers: int = 1,
) -> Executor:
    """The executor of that name.

    Args:
        name: one of :data:`EXECUTORS`.
        num_workers: processes, by default 1; or at most how many Ray actors of a kind, by default
            what the cluster holds.
        max_memory_gb: a process that takes more is killed; 0 sets no limit.
        address: address of the Ray cluster.
        min_workers: number of Ray actors of a kind that are kept.

    Raises:
        ConfigError: there is none, or it cannot do what is asked.
        MissingDependencyError: Ray is not installed.
    """
    if name == "inline":
        return InlineExecutor()
    if name == "processes":
        return ProcessExecutor(1 if num_workers is None else num_workers, max_memory_gb)
    if name == "ray":
        if max_memory_gb:
            raise ConfigError(
                f"A limit of {max_memory_gb:g} GiB cannot be set with Ray, which watches the "
                "memory of its nodes itself. Leave --worker-memory-gb out, or use '--executor "
                "processes'."
            )
        require("ray", "'--executor ray'")
        from data_curation.executors.ray_cluster import RayExecutor

        return RayExecutor(address, min_workers, num_workers or 0)
    raise ConfigError(
        f"There is no executor '{name}'; expected one of {nearest_names(name, EXECUTORS)}."
    )
