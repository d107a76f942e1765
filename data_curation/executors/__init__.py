"""Where the work on sources runs; one file each."""

from __future__ import annotations

from data_curation.executors.base import Executor
from data_curation.executors.inline import InlineExecutor
from data_curation.executors.processes import ProcessExecutor
from nemo_cosmos.errors import ConfigError, nearest_names

__all__ = ["EXECUTORS", "Executor", "InlineExecutor", "ProcessExecutor", "build_executor"]

EXECUTORS = ("inline", "processes")


def build_executor(name: str, num_workers: int = 1, max_memory_gb: float = 0.0) -> Executor:
    """The executor of that name.

    Raises:
        ConfigError: there is none.
    """
    if name == "inline":
        return InlineExecutor()
    if name == "processes":
        return ProcessExecutor(num_workers, max_memory_gb)
    raise ConfigError(
        f"There is no executor '{name}'; expected one of {nearest_names(name, EXECUTORS)}."
    )
