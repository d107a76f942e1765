"""Weights into a network, strictly, with proof that the load took effect.

A load that changes nothing looks like one that works: the run goes on from the weights that the
network was built with, and its videos are noise or the base's. So every load of a network says how
many tensors found their place and how many differ from what the network held before, and one that
changes none is an error. Memory that nobody has filled may hold anything, even the very weights of
a network that lay there before; it is marked first, so that what a load leaves out shows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nemo_cosmos.checkpoint.formats.tensors import (
    PartSource,
    check_fit,
    finite,
    named_few,
    shapes_of,
)
from nemo_cosmos.errors import CheckpointError, counted
from nemo_cosmos.models.common.megatron.parts import TensorPart, parts_of
from nemo_cosmos.platform import is_first_process

ValueT = TypeVar("ValueT")

NUM_SAMPLED = 4096
"""Elements of a tensor that are compared, spread over all of it: a load changes nearly all."""
_MARK = 113.0
"""What marks memory: a number in every type, and no tensor of a model is this all over."""


@dataclass(frozen=True)
class Loaded:
    """What a load did to a network.

    Attributes:
        place: where the weights came from.
        matched: tensors of the network that were loaded.
        missing: tensors that the weights lack, by name; they keep their initial values.
        changed: tensors that differ from what the network held before.
    """

    place: str
    matched: int
    missing: tuple[str, ...]
    changed: int

    def words(self) -> str:
        """One line for people."""
        return (
            f"Weights '{self.place}': {counted(self.matched, 'tensor')} matched, "
            f"{named_few(self.missing, 'missing')}, 0 unexpected; {self.changed} changed"
        )

    def say(self) -> None:
        """Print the line, on the first rank alone."""
        if is_first_process():
            print(self.words(), file=sys.stderr)


class Before:
    """What a network holds before a load.

    Args:
        parts: this rank's parts of it, as ``models.common.megatron.parts`` lists them.
    """

    def __init__(self, parts: Sequence[TensorPart]) -> None:
        self._parts = parts
        self._held = [_sample(part.tensor) for part in parts]

    def loaded(
        self, place: str, missing: Collection[str] = (), *, may_be_same: bool = False
    ) -> Loaded:
        """Compare with what the network holds now; every rank calls it.

        Args:
            place: where the weights came from.
            missing: names of the tensors that keep their initial values.
            may_be_same: whether the network may have held these very weights.

        Raises:
            CheckpointError: nothing has changed.
        """
        here: dict[str, bool] = {}
        for part, held in zip(self._parts, self._held, strict=True):
            # Virtual pipeline stages of a rank may hold a part of one tensor each.
            differs = not torch.equal(held, _sample(part.tensor))
            here[part.name] = here.get(part.name, False) or differs
        ranks = _on_all_ranks(here)
        names = {name for rank in ranks for name in rank}
        result = Loaded(
            place=place,
            matched=len(names - set(missing)),
            missing=tuple(sorted(missing)),
            changed=sum(any(rank.get(name, False) for rank in ranks) for name in names),
        )
        if not result.changed and not may_be_same:
            raise CheckpointError(
                f"Loading '{place}' changed nothing: {counted(result.matched, 'tensor')} matched, "
                f"{named_few(result.missing, 'missing')}, and the model held the very same values "
                "before. They are a network's initial weights, which no training has changed. Give "
                "weights that were trained, such as '<run>/export'."
            )
        return result


@torch.no_grad()
def load_weights(
    networks: Sequence[nn.Module],
    weights: PartSource,
    model: str,
    *,
    may_be_new: Callable[[str], bool] | None = None,
    may_be_longer: Collection[str] = (),
    is_filled: bool = True,
) -> Loaded:
    """Copy weights into a network, strictly.

    Every rank reads only its part of each tensor.

    Args:
        networks: this rank's part of the network, or its parts where it has several pipeline
            stages.
        weights: weights of the whole network, named as in its ``state_dict()``.
        model: what the weights are loaded into, for messages.
        may_be_new: whether a parameter that they lack may keep its initial value, by its
            name; by default none may.
        may_be_longer: parameters that may have more rows than are given; these rows keep their
            initial values.
        is_filled: whether the network holds initial values; without them, any weights are a change.

    Returns:
        What the load did; its missing tensors are those that may be new.

    Raises:
        CheckpointError: their tensors are not those of the network, or the network held the same
            values before.
        NumericsError: one is NaN or infinite.
    """
    # A list: virtual pipeline stages of one rank hold copies of the same parameters.
    parts = [part for network in networks for part in parts_of(network)]
    if not is_filled:
        for part in parts:
            _sampled(part.tensor).fill_(_MARK)
    before = Before(parts)
    ranks = _on_all_ranks({part.name: part.whole_shape for part in parts})
    expected = {name: shape for rank in ranks for name, shape in rank.items()}
    missing = expected.keys() - weights.specs.keys()
    new = {name for name in missing if may_be_new is not None and may_be_new(name)}
    found = shapes_of(weights.specs)
    longer = {
        name: found[name][0]
        for name in may_be_longer
        if name in expected and _is_longer(expected[name], found.get(name, ()))
    }
    expected |= {name: found[name] for name in longer}
    check_fit(
        {name: shape for name, shape in expected.items() if name not in new},
        found,
        weights.place,
        model,
        "The two are of different models: use the recipe or the configuration that the weights "
        "were trained with, or export the folder again.",
    )
    here = [part for part in parts if part.name not in new]
    here = [_up_to(part, longer[part.name]) if part.name in longer else part for part in here]
    here = [part for part in here if part.tensor.numel()]
    read = ((part.name, weights.read_part(part.name, part.slices)) for part in here)
    for part, (_, tensor) in zip(here, finite(read, f"'{weights.place}'"), strict=True):
        part.tensor.copy_(tensor)
    return before.loaded(weights.place, new)


def _is_longer(expected: tuple[int, ...], found: tuple[int, ...]) -> bool:
    """Whether a weight has more rows than the file's, and is like it otherwise."""
    return expected[1:] == found[1:] and expected[:1] > found[:1] != ()


def _up_to(part: TensorPart, num_rows: int) -> TensorPart:
    """The rows of a part that a file of so many has; a later rank's may lie behind them all."""
    rows = part.slices[0]
    first, end = min(rows.start, num_rows), min(rows.stop, num_rows)
    kept = part.tensor[: end - first]
    return replace(part, tensor=kept, slices=(slice(first, end), *part.slices[1:]))


def _sample(tensor: Tensor) -> Tensor:
    return _sampled(tensor).clone()


def _sampled(tensor: Tensor) -> Tensor:
    """The elements that are compared, in the tensor's own memory if that is contiguous."""
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // NUM_SAMPLED)]


def _on_all_ranks(here: dict[str, ValueT]) -> list[dict[str, ValueT]]:
    """What each rank knows of its parts, by their names: pipeline stages hold different layers."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [here]
    listed: list[dict[str, ValueT]] = [{}] * dist.get_world_size()
    dist.all_gather_object(listed, here)
    return listed
