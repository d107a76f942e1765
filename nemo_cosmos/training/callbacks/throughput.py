"""Speed of training: samples, tokens and floating-point operations a second, and MFU.

FLOP/s counts what the model needs, by its own documented formula, forward and backward, without
recomputed activations. MFU divides by the peak of the device, from ``platform.hardware``, or, for a
device that the table lacks, by what a large matrix product reaches here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import lightning.pytorch as pl
import torch
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.platform.hardware import bf16_peak_flops

if TYPE_CHECKING:
    from nemo.lightning.megatron_parallel import MegatronStep

MEASURE_SIZE = 1024
MEASURE_REPEATS = 4


class Throughput(pl.Callback, IOMixin):
    """Log speed every ``log_every_n_steps``, averaged over the steps since the last log.

    Hooks:

    - ``on_train_start``: start the clock and find the device's peak.
    - ``on_megatron_microbatch_end``: count samples, and tokens and FLOP of models with a
      method ``flops_and_tokens(batch)``.
    - ``on_train_batch_start``, ``on_train_batch_end``: measure the time between the end of one step
      and the start of the next, which is data loading and logging; write the numbers.

    Logged: ``step_time_s``, ``samples_per_s``, ``between_steps_s`` and, where the model counts,
    ``tokens_per_s``, ``tflops_per_device``, ``mfu``.

    Args:
        peak_tflops: peak of one device; looked up or measured where None.
    """

    def __init__(self, peak_tflops: float | None = None) -> None:
        self.peak_tflops = peak_tflops
        self._reset()
        self._step_ended_s = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        if self.peak_tflops is None:
            self.peak_tflops = find_peak_tflops(pl_module.device)
        self._reset()

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        """Add the time that passed outside the step."""
        if self._step_ended_s:
            self._between_s += time.perf_counter() - self._step_ended_s

    def on_megatron_microbatch_end(
        self, step: MegatronStep, batch: object, *_: object, **__: object
    ) -> None:
        """Count one micro-batch of training; validation runs through the same hook."""
        if not step.pl_module.training:
            return
        self._num_samples += batch_size(batch)
        count = getattr(step.pl_module, "flops_and_tokens", None)
        if count is not None:
            flop, num_tokens = count(batch)
            self._flop += float(flop)
            self._num_tokens += int(num_tokens)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
    ) -> None:
        """Write the averages when Lightning logs."""
        self._num_steps += 1
        self._step_ended_s = time.perf_counter()
        if trainer.global_step % trainer.log_every_n_steps:
            return
        torch.cuda.synchronize()
        passed_s = max(time.perf_counter() - self._started_s, 1e-9)
        for name, value in self._rates(trainer, passed_s).items():
            pl_module.log(name, value, batch_size=1)
        self._reset()
        self._step_ended_s = time.perf_counter()

    def _rates(self, trainer: pl.Trainer, passed_s: float) -> dict[str, float]:
        strategy = trainer.strategy
        model_parallel = (
            strategy.tensor_model_parallel_size
            * strategy.pipeline_model_parallel_size
            * strategy.context_parallel_size
        )
        # Every virtual stage of a pipeline reports each micro-batch.
        num_reports = strategy.virtual_pipeline_model_parallel_size or 1
        num_samples, num_tokens = self._num_samples / num_reports, self._num_tokens / num_reports
        data_parallel = max(trainer.world_size // model_parallel, 1)
        rates = {
            "step_time_s": passed_s / self._num_steps,
            "between_steps_s": self._between_s / self._num_steps,
            "samples_per_s": num_samples * data_parallel / passed_s,
        }
        if self._num_tokens:
            flop = self._flop / num_reports
            rates["tokens_per_s"] = num_tokens * data_parallel / passed_s
            rates["tflops_per_device"] = flop / model_parallel / passed_s / 1e12
        if self._num_tokens and self.peak_tflops:
            rates["mfu"] = rates["tflops_per_device"] / self.peak_tflops
        return rates

    def _reset(self) -> None:
        self._started_s = time.perf_counter()
        self._between_s = 0.0
        self._num_steps = self._num_samples = self._num_tokens = 0
        self._flop = 0.0


def batch_size(batch: object) -> int:
    """Samples in a batch: the first dimension of its first tensor."""
    values = batch.values() if isinstance(batch, dict) else [batch]
    sizes = (len(value) for value in values if isinstance(value, torch.Tensor) and value.ndim)
    return next(sizes, 0)


def find_peak_tflops(device: torch.device) -> float:
    """Peak of one device: from the table by its name, else measured with a matrix product.

    Args:
        device: where the model computes.

    Returns:
        TFLOP/s; dense bf16 from the table, float32 where measured.
    """
    if device.type == "cuda":
        peak_flops = bf16_peak_flops(torch.cuda.get_device_name(device))
        if peak_flops is not None:
            return peak_flops / 1e12
    return measure_peak_tflops(device)


def measure_peak_tflops(device: torch.device) -> float:
    """The best of a few square matrix products, in TFLOP/s."""
    left = torch.rand(MEASURE_SIZE, MEASURE_SIZE, device=device)
    best_s = float("inf")
    for _ in range(MEASURE_REPEATS):
        started_s = time.perf_counter()
        (left @ left)[0, 0].item()  # waits for the device
        best_s = min(best_s, time.perf_counter() - started_s)
    return 2 * MEASURE_SIZE**3 / best_s / 1e12
