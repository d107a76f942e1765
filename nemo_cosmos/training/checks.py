"""Whether a layout fits the processes that are to train, checked before any of them starts.

What a network's own sizes allow (heads, layers, tokens) is checked by its configuration and, for
each batch, by its data step.
"""

from __future__ import annotations

import os
from typing import Any

from nemo_cosmos.errors import ConfigError


def check_processes(strategy: Any, num_processes: int) -> None:
    """Check that a layout divides the processes, and that the launcher started as many.

    Args:
        strategy: with Megatron's parallel sizes.
        num_processes: devices of all machines.

    Raises:
        ConfigError: it does not, or another number was started.
    """
    sizes = {
        name: getattr(strategy, name)
        for name in (
            "tensor_model_parallel_size",
            "context_parallel_size",
            "pipeline_model_parallel_size",
        )
    }
    one_model = 1
    for size in sizes.values():
        one_model *= size
    if num_processes % one_model:
        told = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise ConfigError(
            f"One model is spread over {one_model} processes ({told}), which do not divide the "
            f"{num_processes} of trainer.devices x trainer.num_nodes. Start {one_model} or a "
            "multiple of it, or lower the sizes."
        )
    copies, sharing = strategy.num_distributed_optimizer_instances, num_processes // one_model
    sharing *= sizes["context_parallel_size"]
    if sharing % copies:
        raise ConfigError(
            f"trainer.strategy.num_distributed_optimizer_instances={copies} does not divide the "
            f"{sharing} processes that share a model's state. Choose a divisor of {sharing}."
        )
    if strategy.fsdp is not None and sharing == copies:
        # Megatron-FSDP 0.16 counts the gradients of such a process twice.
        raise ConfigError(
            "trainer.strategy.fsdp=megatron has nothing to share out: every process holds a whole "
            f"model ({num_processes} processes, {one_model // sizes['context_parallel_size']} of "
            f"them tensor-parallel, {copies} copies of the model). Start more processes, lower "
            "num_distributed_optimizer_instances, or leave fsdp out."
        )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched not in (1, num_processes):
        raise ConfigError(
            f"The launcher started {launched} processes, but trainer.devices x trainer.num_nodes "
            f"is {num_processes}. Make the two equal."
        )
