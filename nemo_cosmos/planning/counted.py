"""Memory and time of a training step that is counted instead of modelled.

Models that are small enough to train data-parallel only, such as the tokenizers, need no formulas:
the real network takes a clip on torch's meta device, which computes shapes and no values, and the
tensors that autograd keeps are added up; operations are counted along the way. Networks of the loss
(VGG16, optical flow) are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nemo_cosmos.errors import ConfigError, counted
from nemo_cosmos.models.common.costs import CountedModel, Precision, Size3
from nemo_cosmos.planning.hardware import (
    CONTEXT_BYTES,
    CONVOLUTION_EFFICIENCY,
    GB,
    USABLE_MEMORY,
    Gpu,
)
from nemo_cosmos.planning.layout import numbers_of_gpus
from nemo_cosmos.platform import divisors


class KeptBytes:
    """Adds up the storages that autograd keeps, each once, other than a module's parameters.

    Use :meth:`hooks` around a forward pass.
    """

    def __init__(self, module: nn.Module) -> None:
        self._own = {p.untyped_storage()._cdata for p in module.parameters()}
        self._kept: dict[int, torch.UntypedStorage] = {}

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        """Return the context in which tensors are counted."""
        return torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)

    @property
    def total(self) -> int:
        """Bytes counted so far."""
        return sum(storage.nbytes() for storage in self._kept.values())

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._own:
            self._kept[storage._cdata] = storage
        return tensor


@dataclass(frozen=True)
class CountedPlan:
    """What a training step needs, data-parallel.

    Attributes:
        parameters: number of the network's parameters.
        precision: bytes by use.
        num_gpus: data-parallel size.
        num_micro_batches: micro-batches of one GPU in a step.
        batch: micro and global batch size.
        clip_thw: frames, rows and columns of a clip.
        activation_bytes: bytes kept for one micro-batch.
        forward_flops: operations of one clip's forward pass.
        gpu: kind of GPU.
        memory_bytes: memory of one GPU.
    """

    parameters: int
    precision: Precision
    num_gpus: int
    num_micro_batches: int
    batch: tuple[int, int]
    clip_thw: Size3
    activation_bytes: float
    forward_flops: int
    gpu: Gpu
    memory_bytes: float

    @property
    def memory(self) -> dict[str, float]:
        """Bytes on a GPU by kind; the optimiser's state and the average are split over GPUs."""
        each, held = self.precision, self.parameters
        return {
            "weights": float(held * each.compute_bytes),
            "gradients": float(held * each.gradient_bytes),
            "optimizer": held * each.optimizer_bytes / self.num_gpus,
            "ema": held * each.ema_bytes / self.num_gpus,
            "activations": self.activation_bytes,
            "context": CONTEXT_BYTES,
        }

    @property
    def flops(self) -> int:
        """Operations of a step over the global batch."""
        return 3 * self.forward_flops * self.batch[1]

    @property
    def step_time_s(self) -> float:
        """Expected seconds of a step, by convolutions alone."""
        peak = self.gpu.peak_flops(self.precision.name) * CONVOLUTION_EFFICIENCY
        return self.flops / self.num_gpus / peak

    def to_dict(self) -> dict[str, object]:
        """Return plain values for ``--json``, with the names that a world model's plan has."""
        total = sum(self.memory.values())
        return {
            "parameters": self.parameters,
            "parameters_trained": self.parameters,
            "gpus": self.num_gpus,
            "gpu": self.gpu.name,
            "gpu_memory_gb": self.memory_bytes / GB,
            "precision": self.precision.name,
            "clip_thw": list(self.clip_thw),
            "micro_batch_size": self.batch[0],
            "global_batch_size": self.batch[1],
            "model_state_gb_total": self.parameters * self.precision.state_bytes / GB,
            "activation_gb_per_gpu": self.activation_bytes / GB,
            "activation_gb_per_gpu_by_recompute": {"none": self.activation_bytes / GB},
            "flops_per_step": self.flops,
            "model_flops_per_step": self.flops,
            "forward_flops_per_sample": self.forward_flops,
            "layout": {
                "tensor_model_parallel_size": 1,
                "context_parallel_size": 1,
                "pipeline_model_parallel_size": 1,
                "data_parallel_size": self.num_gpus,
                "sequence_parallel": False,
                "fsdp": False,
                "recompute": "none",
                "num_micro_batches": self.num_micro_batches,
            },
            "memory_gb_per_gpu": {
                **{kind: size / GB for kind, size in self.memory.items()},
                "total": total / GB,
            },
            "bubble": 0.0,
            "step_time_s": self.step_time_s,
        }


def plan_counted(
    model: type[CountedModel],
    config: object,
    clip_thw: Size3,
    precision: Precision,
    batch: tuple[int, int],
    gpu: Gpu,
    num_gpus: int,
    memory_bytes: float,
) -> CountedPlan:
    """Count one clip on the meta device and plan the step.

    Args:
        model: the class of the Lightning module.
        config: the network's configuration, as the class takes it.
        clip_thw: frames, rows and columns of a training clip.
        precision: bytes by use.
        batch: micro and global batch size.
        gpu: kind of GPU.
        num_gpus: number of GPUs.
        memory_bytes: memory of each GPU.

    Raises:
        ConfigError: the batch does not divide over the GPUs, or a clip does not fit.
        WrongFrameCountError, WrongSizeError: the network does not take such a clip.
    """
    micro, whole = batch
    if whole % (micro * num_gpus):
        legal = numbers_of_gpus(divisors(whole // micro), ", ")
        raise ConfigError(
            f"A global batch of {whole} in micro-batches of {micro} does not divide over "
            f"{counted(num_gpus, 'GPU')}. Use {legal}, or set "
            f"data.global_batch_size to a multiple of {micro * num_gpus}."
        )
    dtype = torch.bfloat16 if precision.compute_bytes == 2 else torch.float32
    network, video = model.meta_step(config, clip_thw, dtype)
    kept, counter = KeptBytes(network), FlopCounterMode(display=False)
    with kept.hooks(), counter:
        network(video)
    plan = CountedPlan(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        precision=precision,
        num_gpus=num_gpus,
        num_micro_batches=whole // (micro * num_gpus),
        batch=batch,
        clip_thw=clip_thw,
        activation_bytes=float(kept.total * micro),
        forward_flops=int(counter.get_total_flops()),
        gpu=gpu,
        memory_bytes=memory_bytes,
    )
    needed = sum(plan.memory.values())
    if needed > memory_bytes * USABLE_MEMORY:
        raise ConfigError(
            f"Nothing fits: a micro-batch of {counted(micro, 'clip')} of {clip_thw[0]} frames, "
            f"{clip_thw[1]}x{clip_thw[2]}, needs {needed / GB:.1f} GB on a GPU, and of "
            f"{memory_bytes / GB:.0f} GB about {memory_bytes * USABLE_MEMORY / GB:.0f} can be "
            f"used. What would: GPUs of {needed / USABLE_MEMORY / GB:.0f} GB, or smaller clips "
            "(data.size, data.num_frames, data.micro_batch_size)."
        )
    return plan
