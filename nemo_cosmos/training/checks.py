"""Arguments of a run that cannot work together, refused before any rank starts to train.

The network's configuration checks its own sizes (heads, layers), and each batch its tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nemo_cosmos.errors import ConfigError, counted
from nemo_cosmos.options import check_value
from nemo_cosmos.platform import ranks
from nemo_cosmos.platform.accelerator.findings import Needs, check_machine

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from nemo import lightning as nl


def check_trainers_machine(trainer: pl.Trainer) -> None:
    """Require of this machine what a trainer's precision and ranks need.

    Raises:
        ConfigError: it is missing; in the words of ``nemo-cosmos status --machine``.
    """
    precision: Any = getattr(trainer.precision_plugin, "dtype_config", None)
    needs = Needs(
        precision=str(trainer.precision),
        fp8_recipe=precision.fp8_recipe if getattr(precision, "fp8", None) else None,
        num_devices=trainer.num_devices,
    )
    check_machine(needs)


def check_run(model: object, data: object, trainer: pl.Trainer) -> None:
    """Check a model, its data and a trainer together.

    Args:
        model: the Lightning module.
        data: its data module.
        trainer: the trainer, with the number of ranks and the parallel layout.

    Raises:
        ConfigError: a network without layers, or batch sizes that do not divide.
    """
    check_model(model)
    sampler = getattr(data, "data_sampler", None)
    if sampler is not None:
        check_batches(
            sampler.micro_batch_size,
            sampler.global_batch_size,
            num_copies(trainer.strategy, trainer.world_size),
        )


def check_model(model: object) -> None:
    """Require something to train.

    Raises:
        ConfigError: a network without layers.
    """
    num_layers = getattr(getattr(model, "config", None), "num_layers", 1)
    if num_layers is None or num_layers < 1:
        raise ConfigError(
            f"model.config.num_layers={num_layers} leaves nothing to train. Give at least 1."
        )


def check_steps(max_steps: int) -> None:
    """Require a length of the run: learning-rate schedules and progress depend on it.

    Raises:
        ConfigError: it is not positive.
    """
    check_value("trainer.max_steps", max_steps, int)
    if max_steps < 1:
        raise ConfigError(
            f"trainer.max_steps={max_steps} is no length of a run: it counts optimiser steps, from "
            "1. A run cannot be endless; raise max_steps later to continue a finished one."
        )


def check_batches(micro_batch_size: int, global_batch_size: int, copies: int) -> None:
    """Require that the micro-batches of all copies of the model make up whole global batches.

    Args:
        micro_batch_size: samples of one forward pass on one rank.
        global_batch_size: samples of one optimiser step.
        copies: copies of the model that read different samples.

    Raises:
        ConfigError: they do not.
    """
    unit = micro_batch_size * copies
    if micro_batch_size < 1 or global_batch_size < 1 or global_batch_size % unit:
        nearest = max(round(global_batch_size / max(unit, 1)), 1) * max(unit, 1)
        raise ConfigError(
            f"data.global_batch_size={global_batch_size} is not a multiple of "
            f"data.micro_batch_size={micro_batch_size} times the {copies} copies of the model that "
            f"train in parallel. Set data.global_batch_size={nearest}, or another multiple of "
            f"{max(unit, 1)}, or change data.micro_batch_size."
        )


def num_copies(strategy: nl.MegatronStrategy, num_processes: int) -> int:
    """Copies of the model that read different samples: the data-parallel size.

    Args:
        strategy: the parallel layout.
        num_processes: ranks on all machines.
    """
    one_model = (
        strategy.tensor_model_parallel_size
        * strategy.context_parallel_size
        * strategy.pipeline_model_parallel_size
    )
    return max(num_processes // int(one_model), 1)


def check_processes(strategy: nl.MegatronStrategy, num_processes: int) -> None:
    """Check that a layout divides the processes, and that the launcher started as many.

    Args:
        strategy: the strategy, with Megatron's parallel sizes.
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
        listed = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise ConfigError(
            f"One model is spread over {one_model} processes ({listed}), which do not divide the "
            f"{num_processes} of trainer.devices x trainer.num_nodes. Start {one_model} or a "
            "multiple of it, or lower the sizes."
        )
    copies, sharing = strategy.num_distributed_optimizer_instances, num_processes // one_model
    sharing *= sizes["context_parallel_size"]
    if sharing % copies:
        raise ConfigError(
            f"trainer.strategy.num_distributed_optimizer_instances={copies} does not divide the "
            f"{counted(sharing, 'process', 'processes')} over which the copies of the model are "
            f"spread. Choose a divisor of {sharing}."
        )
    if strategy.fsdp is not None and sharing == copies:
        # Megatron-FSDP 0.16 counts the gradients of such a process twice.
        raise ConfigError(
            "trainer.strategy.fsdp=megatron has nothing to shard: every process holds a whole "
            f"model ({counted(num_processes, 'process', 'processes')}, "
            f"{one_model // sizes['context_parallel_size']} of them tensor-parallel, "
            f"{counted(copies, 'copy', 'copies')} of the model). Start more processes, lower "
            "num_distributed_optimizer_instances, or leave fsdp out."
        )
    launched = ranks.num_processes()
    if launched not in (1, num_processes):
        raise ConfigError(
            f"The launcher started {launched} processes, but trainer.devices x trainer.num_nodes "
            f"is {num_processes}. Make the two equal."
        )
