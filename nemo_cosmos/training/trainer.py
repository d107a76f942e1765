"""NeMo's trainer with settings for this machine and for world models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from nemo import lightning as nl

from nemo_cosmos.options import Range, check_instance, check_value
from nemo_cosmos.platform import ranks
from nemo_cosmos.platform.quiet import quiet_nemo
from nemo_cosmos.training.callbacks.bad_steps import BadSteps
from nemo_cosmos.training.callbacks.curves import LossCurves
from nemo_cosmos.training.callbacks.hang_watch import HangWatch
from nemo_cosmos.training.callbacks.machine_check import MachineCheck
from nemo_cosmos.training.callbacks.memory import Memory
from nemo_cosmos.training.callbacks.progress import Progress
from nemo_cosmos.training.callbacks.signals import StopOnSignal
from nemo_cosmos.training.callbacks.slow_ranks import SlowRanks
from nemo_cosmos.training.callbacks.tensor_overlap import TensorOverlap
from nemo_cosmos.training.callbacks.throughput import Throughput
from nemo_cosmos.training.checkpointing.random_state import RandomState
from nemo_cosmos.training.checks import check_processes, check_steps
from nemo_cosmos.training.precision import megatron_precision
from nemo_cosmos.training.resilience.settings import Resilience
from nemo_cosmos.training.strategy import WorldStrategy


class ReadyToStep(BaseException):
    """Raised by :class:`WorldTrainer` where ``Trainer.fit`` would begin to train.

    It is no ``Exception``: no handler between the trainer and :class:`SteppedFit` may catch it.
    """


class WorldTrainer(nl.Trainer):
    """``nemo.lightning.Trainer`` for world models, on a GPU where there is one, else on the CPU.

    Args:
        max_steps: optimiser steps.
        precision: ``"32"``, ``"bf16-mixed"`` or ``"16-mixed"``, by Megatron's mixed precision: the
            optimiser keeps float32 weights.
        grad_reduce_in_fp32: accumulate and reduce gradients in float32, also in mixed precision;
            otherwise in the precision of the forward pass, for half the memory and traffic.
        fp8: ``"hybrid"`` or ``"e4m3"``: matrix products of the layers in FP8 (Transformer Engine).
        fp8_recipe: ``"tensorwise"`` (current scaling), ``"delayed"``, ``"blockwise"`` or
            ``"mxfp8"``.
        bf16_end_layers: layers at either end that stay in bfloat16 with FP8; by default 1, and 0
            with delayed scaling.
        devices: ranks on this machine.
        strategy: the parallel layout; one process where None.
        callbacks: callbacks besides those that every run has: random state, stop on signals,
            buffers of tensor overlap, throughput, memory, loss curves, progress.
        resilience: what the run does about faults; the defaults of :class:`Resilience` where None.
        **kwargs: further arguments of Lightning's trainer.

    Attributes:
        allowed_mismatch: differences between what is trained together that someone meant; a
            session sets it, and the exported world and the checkpoints record it.

    Raises:
        ConfigError: an unknown precision, FP8 that does not go with it, or a layout that does not
            fit the number of processes.
        MissingDependencyError: FP8 without Transformer Engine.
    """

    def __init__(
        self,
        *,
        max_steps: int = 1000,
        precision: str = "32",
        grad_reduce_in_fp32: bool = True,
        fp8: str | None = None,
        fp8_recipe: str = "tensorwise",
        bf16_end_layers: int | None = None,
        devices: int = 1,
        strategy: WorldStrategy | None = None,
        callbacks: Sequence[pl.Callback] | None = None,
        resilience: Resilience | None = None,
        accelerator: str = "auto",
        log_every_n_steps: int = 10,
        limit_val_batches: int | float = 0,
        val_check_interval: int | float | None = None,
        **kwargs: Any,
    ) -> None:
        quiet_nemo()
        check_steps(max_steps)
        _check_arguments(devices, kwargs.get("num_nodes", 1), log_every_n_steps)
        if strategy is not None:
            advice = "Write WorldStrategy(tensor_model_parallel_size=...)."
            check_instance("trainer.strategy", strategy, WorldStrategy, advice)
        check_instance("trainer.callbacks", callbacks or [], Sequence, "Give a list.")
        self.resilience = resilience if resilience is not None else Resilience()
        advice = "Write Resilience(hang_minutes=...)."
        check_instance("trainer.resilience", self.resilience, Resilience, advice)
        if self.resilience.elastic:
            devices, kwargs["num_nodes"] = ranks.launched_layout(
                devices, kwargs.get("num_nodes", 1)
            )
        if "plugins" not in kwargs:
            kwargs["plugins"] = megatron_precision(
                str(precision),
                grad_reduce_in_fp32=grad_reduce_in_fp32,
                fp8=fp8,
                fp8_recipe=fp8_recipe,
                bf16_end_layers=bf16_end_layers,
            )
        kwargs["plugins"] = with_environment(kwargs["plugins"])
        # The megatron sampler shards the data; logging and the bar are ours; validation is opt-in.
        kwargs = {
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": False,
            "enable_checkpointing": False,
            "check_val_every_n_epoch": None,
        } | kwargs
        strategy = strategy if strategy is not None else WorldStrategy()
        check_processes(strategy, devices * int(kwargs.get("num_nodes", 1)))
        self.is_stepped = False
        self.allowed_mismatch: tuple[str, ...] = ()
        with ranks.alone_unless_launched():
            super().__init__(
                accelerator=accelerator,
                max_steps=max_steps,
                devices=devices,
                strategy=strategy,
                callbacks=with_defaults(list(callbacks or ()), self.resilience),
                log_every_n_steps=log_every_n_steps,
                limit_val_batches=limit_val_batches,
                val_check_interval=val_check_interval or max_steps,
                **kwargs,
            )

    def _run_stage(self) -> object:
        """Train, or stop here for :class:`SteppedFit`: everything is set up by now."""
        if self.is_stepped and self.training:
            raise ReadyToStep
        return super()._run_stage()


def _check_arguments(devices: object, num_nodes: object, log_every_n_steps: object) -> None:
    for name, number in (
        ("trainer.devices", devices),
        ("trainer.num_nodes", num_nodes),
        ("trainer.log_every_n_steps", log_every_n_steps),
    ):
        check_value(name, number, int, Range(least=1))


def with_environment(plugins: object) -> list[object]:
    """Add Lightning's view of the launcher, unless the caller chose one.

    Lightning takes each process with ``SLURM_NTASKS``, such as one in ``salloc``'s shell, for one
    of as many, and waits for the others.
    """
    if plugins is None or isinstance(plugins, str):
        given: list[object] = [plugins] if plugins else []
    else:
        given = list(plugins) if isinstance(plugins, Sequence) else [plugins]
    chosen = any(isinstance(plugin, ClusterEnvironment) for plugin in given)
    if chosen:
        return given
    if ranks.is_torchrun_rank() and TorchElasticEnvironment.detect():
        return [*given, TorchElasticEnvironment()]
    if ranks.is_srun_rank() and not ranks.is_torchrun_rank():
        # Else Lightning puts the job back into the queue itself, as its script does, and lets
        # SIGTERM pass by until the first step.
        return [*given, SLURMEnvironment(auto_requeue=False)]
    return [*given, LightningEnvironment()]


def with_defaults(callbacks: list[pl.Callback], resilience: Resilience) -> list[pl.Callback]:
    """Add the callbacks that every run has, unless one of the same class is there.

    The random state comes last: it is restored after everything else has drawn its numbers.
    """
    kinds = {type(callback) for callback in callbacks}
    defaults = (
        StopOnSignal, TensorOverlap, Throughput, Memory, LossCurves, Progress, RandomState
    )  # fmt: skip
    first: list[pl.Callback] = [BadSteps(resilience.spike_factor, resilience.spike_window)]
    if resilience.check_machine:
        first.append(MachineCheck())
    if resilience.hang_minutes or resilience.hang_minutes_between:
        first.append(HangWatch(resilience.hang_minutes, resilience.hang_minutes_between))
    if resilience.slow_rank_every_n_steps:
        first.append(SlowRanks(resilience.slow_rank_every_n_steps, resilience.slow_rank_factor))
    return [*first, *callbacks, *(kind() for kind in defaults if kind not in kinds)]
