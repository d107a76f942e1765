"""What this rank's optimiser steps of each weight.

That is the whole weight, in float32; or, under the distributed optimiser, a run of its elements:
the data-parallel ranks hold a share each, and nothing of weights that fall to others. Under FSDP it
is the rows that the rank keeps. What is computed from the weights after a step, such as their
average, is computed share by share: nothing is gathered, and nothing is kept twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from megatron.core.optimizer import MegatronOptimizer

    from nemo_cosmos.training.strategy import WorldStrategy


@dataclass(frozen=True)
class Share:
    """This rank's share of one weight.

    Attributes:
        weight: the weight, or the rows of it, that this rank's network holds.
        stepped: the values that the optimiser steps, in float32 where it keeps such: flat under a
            distributed optimiser, else of the weight's shape.
        elements: place of the share in the flat weight.
        owner: the distributed optimiser that spreads the weight; None where the share is all that
            this rank's network holds.
    """

    weight: Tensor
    stepped: Tensor
    elements: slice
    owner: MegatronOptimizer | None

    @property
    def values(self) -> Tensor:
        """The share as the network computes with it, to read and to write."""
        weight = self.weight.detach()
        return weight if self.owner is None else weight.view(-1)[self.elements]


def shares(strategy: WorldStrategy) -> list[Share]:
    """This rank's shares of the weights that are trained.

    Args:
        strategy: the strategy of a model that is set up.
    """
    owners = spreading(strategy)
    found = []
    for weight in strategy.trained_weights():
        owner = owners.get(id(weight))
        main: Tensor | None = getattr(weight, "main_param", None)
        if owner is None:
            stepped = weight if main is None else main.view_as(weight)
            found.append(Share(weight, stepped.detach(), slice(0, weight.numel()), None))
        elif weight in owner.model_param_gbuf_map:
            elements = share_of(owner, weight)
            stepped = weight.detach().view(-1)[elements] if main is None else main.detach()
            found.append(Share(weight, stepped, elements, owner))
    return found


@contextmanager
def temporary_weights(
    strategy: WorldStrategy, held: Sequence[Share], values: Sequence[Tensor]
) -> Iterator[None]:
    """Within the block the network computes with other weights; the optimiser's stay as they are.

    Args:
        strategy: the strategy of a model that is set up.
        held: this rank's :func:`shares`.
        values: a value for each.
    """
    strategy.sync_weights()
    kept = [share.values.clone() for share in held]
    _write(strategy, held, values)
    try:
        yield
    finally:
        _write(strategy, held, kept)


@torch.no_grad()
def _write(strategy: WorldStrategy, held: Sequence[Share], values: Sequence[Tensor]) -> None:
    """Copy in place, since weights are views of Megatron's buffers, and gather other ranks'."""
    for share, value in zip(held, values, strict=True):
        share.values.copy_(value)
    strategy.weights_written(step_from_them=False, shares_alone=bool(spreading(strategy)))


def share_of(optimizer: MegatronOptimizer, weight: Tensor) -> slice:
    """The elements of a flat weight that a distributed optimiser steps on this rank."""
    elements = optimizer._get_model_param_range_map(weight)["param"]
    return slice(elements.start, elements.end)


def spreading(strategy: WorldStrategy) -> dict[int, MegatronOptimizer]:
    """By the identity of a weight, the distributed optimiser that spreads it.

    It is the same on all data-parallel ranks, so that they take part in the same exchanges.
    """
    return {
        id(weight): optimizer
        for optimizer in optimizers_of(strategy)
        for buffer in getattr(optimizer, "buffers", ())
        for weight in getattr(buffer, "params", ())
    }


def optimizers_of(strategy: WorldStrategy) -> list[MegatronOptimizer]:
    """Megatron's optimisers, without NeMo's wrappers."""
    outer = [wrapped.mcore_optimizer for wrapped in strategy.optimizers]
    return [inner for one in outer for inner in getattr(one, "chained_optimizers", [one])]
