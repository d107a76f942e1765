"""Environment variables that training on GPUs needs, by parallel layout: the one list of them.

CUDA, NCCL and Transformer Engine read them when they start, so a launcher puts them into the
environment of the processes that it starts, and a training session into its own before it uses the
GPU. What the user has set stays. Imports nothing heavy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

ALLOCATOR_NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""The name that Megatron-Core reads, and the newer one; torch takes either."""


@dataclass(frozen=True)
class GpuLayout:
    """What the variables depend on.

    Attributes:
        ranks: all processes, each with a GPU.
        tensor: tensor-parallel ranks.
        context: context-parallel ranks.
        pipeline: pipeline stages.
        fsdp: whether weights are sharded over data-parallel ranks.
    """

    ranks: int = 1
    tensor: int = 1
    context: int = 1
    pipeline: int = 1
    fsdp: bool = False

    @classmethod
    def of(cls, strategy: Any, ranks: int) -> Self:
        """Return the layout of a strategy, or of its configuration.

        Args:
            strategy: what has Megatron's parallel sizes.
            ranks: all processes.
        """
        sizes = {
            name: int(getattr(strategy, f"{name}_parallel_size", None) or 1)
            for name in ("tensor_model", "context", "pipeline_model")
        }
        return cls(
            ranks,
            sizes["tensor_model"],
            sizes["context"],
            sizes["pipeline_model"],
            fsdp=bool(getattr(strategy, "fsdp", None)),
        )

    def __str__(self) -> str:
        """Name the layout, such as ``"TP2 CP4 on 64 GPUs"``."""
        sizes = {"TP": self.tensor, "CP": self.context, "PP": self.pipeline}
        names = [f"{name}{size}" for name, size in sizes.items() if size > 1]
        names += ["FSDP"] if self.fsdp else []
        gpus = "one GPU" if self.ranks == 1 else f"{self.ranks} GPUs"
        return f"{' '.join(names)} on {gpus}" if names else gpus


@dataclass(frozen=True)
class GpuVariable:
    """A variable for a layout.

    Attributes:
        name: its name.
        value: its value; None where it must not be set.
        reason: what it is for.
    """

    name: str
    value: str | None
    reason: str


def gpu_variables(layout: GpuLayout) -> list[GpuVariable]:
    """Return the variables for a layout, each with its reason."""
    variables = [
        GpuVariable(
            ALLOCATOR_NAMES[0],
            "expandable_segments:True",
            "batches of many sizes would leave gaps in the GPU's memory",
        ),
        GpuVariable("NVTE_FUSED_ATTN", "1", "cuDNN's attention, the fastest of long videos"),
    ]
    if layout.ranks == 1:
        return variables
    margin = "16 multiprocessors stay free for the exchange beside a normalisation"
    variables += [
        GpuVariable("NVTE_FWD_LAYERNORM_SM_MARGIN", "16", margin),
        GpuVariable("NVTE_BWD_LAYERNORM_SM_MARGIN", "16", margin),
        GpuVariable("TORCH_NCCL_HIGH_PRIORITY", "1", "exchanges go before kernels that wait"),
        GpuVariable("NCCL_NVLS_ENABLE", "0", "the buffers of NVLink SHARP take GPU memory"),
    ]
    queues = "CUDA_DEVICE_MAX_CONNECTIONS"
    if layout.fsdp:
        reason = "in one queue, gathering weights would wait for the layers before"
        return [*variables, GpuVariable(queues, None, reason)]
    if layout.tensor > 1 or layout.context > 1:
        reason = "in one queue, an exchange starts before the product that hides it; Blackwell: 32"
        return [*variables, GpuVariable(queues, "1", reason)]
    return variables


def missing_variables(layout: GpuLayout, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what an environment lacks; nothing that it sets itself.

    Args:
        layout: the parallel layout.
        environment: the variables that are set.
    """
    return {
        variable.name: variable.value
        for variable in gpu_variables(layout)
        if variable.value is not None and _set_value(variable, environment) is None
    }


def describe_environment(layout: GpuLayout, environment: Mapping[str, str]) -> list[str]:
    """Say what a job's processes see and why, one variable a line.

    Args:
        layout: the parallel layout.
        environment: the variables that the user has set; they stay.
    """
    return [
        f"Environment for {layout}:",
        *(f"  {_line(variable, environment)}" for variable in gpu_variables(layout)),
    ]


@contextmanager
def gpu_environment(layout: GpuLayout) -> Iterator[None]:
    """Within the block, this process has the layout's variables, unless it has its own."""
    added = missing_variables(layout, os.environ)
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _set_value(variable: GpuVariable, environment: Mapping[str, str]) -> str | None:
    names = ALLOCATOR_NAMES if variable.name in ALLOCATOR_NAMES else (variable.name,)
    return next((environment[name] for name in names if environment.get(name)), None)


def _line(variable: GpuVariable, environment: Mapping[str, str]) -> str:
    own = _set_value(variable, environment)
    wanted = f"{variable.name}={variable.value}" if variable.value else f"{variable.name} unset"
    if own is None or own == variable.value:
        return f"{wanted}  ({variable.reason})"
    return f"{variable.name}={own}  (set by you; {wanted} is usual: {variable.reason})"
