"""How copies of a model exchange gradients and weights: Megatron-Core's settings, by device.

On GPUs the exchange runs beside the computation, and nothing is read from the device meanwhile. On
the CPU nothing runs beside anything, and the plain exchange is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

from megatron.core.distributed import DistributedDataParallelConfig

from nemo_cosmos.platform import by_device
from nemo_cosmos.training.resilience.skipped import BadStep

DEFAULT = "megatron"
"""What NeMo's strategy calls its own settings."""


def with_overlap(
    config: DistributedDataParallelConfig,
    *,
    num_sharing: int,
    sums_losses: bool,
    overlap: bool | None = None,
) -> DistributedDataParallelConfig:
    """Return settings whose exchange runs beside the computation, where that gains anything.

    Args:
        config: NeMo's default, with the precision's and the optimiser's choices.
        num_sharing: ranks that share a model's gradients.
        sums_losses: whether the step's loss is a sum that is divided at the end, as with packs.
        overlap: whether to; by default on GPUs.
    """
    on_gpu = by_device(False, True)
    if not (on_gpu if overlap is None else overlap):
        return config
    shares = num_sharing > 1
    return replace(
        config,
        # Reduced in buckets of 40 million, as soon as the backward pass has filled one. A single
        # bucket would also be gathered whole when the optimiser is saved.
        overlap_grad_reduce=shares,
        # Gathered layer by layer in the next forward pass. Whoever reads weights between two steps
        # calls ``WorldStrategy.sync_weights`` before.
        overlap_param_gather=shares and config.use_distributed_optimizer,
        # NCCL divides while it adds, which saves a pass over the gradients; gloo cannot, and a sum
        # has no mean.
        average_in_collective=shares and on_gpu and not sums_losses,
        # Two waits a bucket in the middle of the backward pass; `stop_at_divergence` needs none.
        check_for_nan_in_grad=False,
    )


def stop_at_divergence(step: Callable[..., Any]) -> Callable[..., Any]:
    """Let an optimiser's step raise :class:`BadStep` where the gradients are not finite.

    The step has read their norm to clip them, over all ranks, so that looking at it costs nothing
    and every rank raises. Nothing has been saved since. The weights are spoilt by then.

    Args:
        step: the step of a Megatron-Core optimiser, which returns the norm second.
    """

    @wraps(step)
    def checked(*args: Any, **kwargs: Any) -> Any:
        done, norm, num_zeros = step(*args, **kwargs)
        # A tensor may be on the device, where looking at it would wait.
        if isinstance(norm, float) and not math.isfinite(norm):
            kind = "NaN" if math.isnan(norm) else "Inf"
            raise BadStep(f"gradients are {kind}")
        return done, norm, num_zeros

    return checked
