"""The weights of a model in training, read and replaced while it trains.

In mixed precision the optimiser keeps a float32 copy of each weight, of which the data-parallel
ranks hold a share each. That copy is what training changes; the weights that the network computes
with are its rounding. Reading and writing here mean the float32 copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import Tensor

from nemo_cosmos.errors import CheckpointError, ConfigError, nearest_names
from nemo_cosmos.models.common.megatron.module import bare_networks
from nemo_cosmos.models.common.megatron.parts import TensorPart, parts_of
from nemo_cosmos.training.weights.shares import optimizers_of, share_of, spreading

if TYPE_CHECKING:
    from megatron.core.optimizer import MegatronOptimizer
    from nemo import lightning as nl


@torch.no_grad()
def read_weights(trainer: pl.Trainer) -> Iterator[TensorPart]:
    """Copy this rank's parts of the weights, one after the other; all ranks call it together.

    Args:
        trainer: the trainer of a model that is set up.

    Yields:
        a part of a tensor; floating-point values in float32, on the device of the network.
    """
    trainer.strategy.sync_weights()
    optimizers = _owners(trainer)
    for network in bare_networks(trainer):
        for part in parts_of(network):
            yield replace(part, tensor=_read(part.tensor, optimizers))


@torch.no_grad()
def replace_weights(trainer: pl.Trainer, parts: Iterable[TensorPart]) -> None:
    """Put values in place of this rank's weights, and of the optimiser's float32 copies.

    Args:
        trainer: the trainer of a model that is set up.
        parts: new values for parts that :func:`read_weights` yields on this rank. What they leave
            out keeps its value; the optimiser keeps its moments.

    Raises:
        ConfigError: the optimiser keeps weights of its own.
        CheckpointError: a part is not one of this rank's, or has another shape; nothing has been
            changed.
    """
    if any(
        optimizer.config.use_precision_aware_optimizer
        for optimizer in optimizers_of(trainer.strategy)
    ):
        raise ConfigError(
            "The optimiser keeps weights of its own that nothing else can write, so weights cannot "
            "be replaced during training. Set optim.config.use_precision_aware_optimizer=false."
        )
    strategy: nl.MegatronStrategy = trainer.strategy
    strategy.sync_weights()
    here = {_place(part): part for network in bare_networks(trainer) for part in parts_of(network)}
    new = [(here.get(_place(part)), part) for part in parts]
    for known, part in new:
        if known is None or known.tensor.shape != part.tensor.shape:
            names = {name for name, _ in here}
            raise CheckpointError(
                f"This rank holds no part of '{part.name}' at {part.slices} of "
                f"{part.whole_shape}, so its weights cannot be replaced. The nearest names here "
                f"are {nearest_names(part.name, names)}. Give parts that weights() of a session "
                "with the same model and parallel layout yields."
            )
    pairs = [(known.tensor, part.tensor) for known, part in new if known is not None]
    _copy_into([weight for weight, _ in pairs], [value for _, value in pairs])
    strategy.weights_written(step_from_them=True)
    optimizers = _owners(trainer)
    for weight, value in pairs:  # the copies were just made of rounded values
        _write_float32(weight, value, optimizers)


def _copy_into(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy in place: weights are views of Megatron's communication buffers."""
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)


def _place(part: TensorPart) -> tuple[str, tuple[tuple[int, int], ...]]:
    """A key of a part: its tensor and where it lies in it."""
    return part.name, tuple((side.start, side.stop) for side in part.slices)


def _read(weight: Tensor, optimizers: dict[int, MegatronOptimizer]) -> Tensor:
    """A copy of a weight, in float32 where it has decimals."""
    if not weight.is_floating_point() or weight.dtype == torch.float32:
        return weight.detach().clone()
    main: Tensor | None = getattr(weight, "main_param", None)
    optimizer = optimizers.get(id(weight))
    if optimizer is None:
        whole = weight.float() if main is None else main.detach().view_as(weight).clone()
        return whole.detach()
    # Ranks that own nothing of this weight have a share of zero length; all add theirs up.
    flat = torch.zeros(weight.numel(), dtype=torch.float32, device=weight.device)
    if main is not None:
        flat[share_of(optimizer, weight)] = main.detach()
    dist.all_reduce(flat, group=optimizer.data_parallel_group)
    return flat.view_as(weight)


def _write_float32(weight: Tensor, value: Tensor, optimizers: dict[int, MegatronOptimizer]) -> None:
    """Copy a value to this rank's share of the float32 copy of a weight, where there is one."""
    main: Tensor | None = getattr(weight, "main_param", None)
    if main is None:
        return
    optimizer = optimizers.get(id(weight))
    flat = value.reshape(-1)
    main.view(-1).copy_(flat if optimizer is None else flat[share_of(optimizer, weight)])


def _owners(trainer: pl.Trainer) -> dict[int, MegatronOptimizer]:
    """By the identity of a weight, the distributed optimiser that spreads its float32 copy."""
    return {
        weight: optimizer
        for weight, optimizer in spreading(trainer.strategy).items()
        if not optimizer.config.use_precision_aware_optimizer
    }
