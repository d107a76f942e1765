"""The environment of a job's processes."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nemo_cosmos.launch.job import Job
from nemo_cosmos.platform.gpu_environment import (
    GpuLayout,
    describe_environment,
    missing_variables,
)


def job_environment(
    job: Job, chosen: Mapping[str, object], *, inherits: bool = True
) -> dict[str, str]:
    """Return the variables that a launcher sets: the job's and the site's, then the layout's.

    Args:
        job: what runs.
        chosen: variables that the site sets.
        inherits: whether the job's processes inherit this process's variables, which then count as
            the user's choice.
    """
    own = {**_as_text(chosen), **job.env}
    layout = layout_of(job)
    if layout is None:
        return own
    there = {**os.environ, **own} if inherits else own
    return {**missing_variables(layout, there), **own}


def describe_job_environment(job: Job, chosen: Mapping[str, object]) -> list[str]:
    """Say what a job's processes on GPUs see and why; nothing where it has no layout."""
    layout = layout_of(job)
    environment = {**os.environ, **_as_text(chosen), **job.env}
    return [] if layout is None else describe_environment(layout, environment)


def layout_of(job: Job) -> GpuLayout | None:
    """The parallel layout of a training recipe; None for other jobs."""
    trainer = getattr(job.recipe, "trainer", None)
    strategy = getattr(trainer, "strategy", None)
    return None if strategy is None else GpuLayout.of(strategy, job.resources.num_processes)


def fabric_variables(interface: str | None, ib_devices: str | None) -> dict[str, str]:
    """Return what NCCL, Gloo and UCX read of a cluster's network.

    Args:
        interface: the network interface that processes meet through, such as ``bond0``; None lets
            each library choose.
        ib_devices: InfiniBand devices of the compute network with commas between; None lets each
            library choose.
    """
    variables: dict[str, str] = {}
    if interface:
        variables |= {"NCCL_SOCKET_IFNAME": interface, "GLOO_SOCKET_IFNAME": interface}
    if ib_devices:
        names = [name.strip() for name in ib_devices.split(",")]
        variables["NCCL_IB_HCA"] = ",".join(names)
        # UCX wants the port as well; NCCL takes all of a device.
        variables["UCX_NET_DEVICES"] = ",".join(
            name if ":" in name else f"{name}:1" for name in names
        )
    return variables


def _as_text(variables: Mapping[str, object]) -> dict[str, str]:
    """A site's file may hold numbers."""
    return {name: str(value) for name, value in variables.items()}
