"""Tensors by name that are read one at a time, so that any model converts in little memory.

A :class:`TensorSource` is a file or folder with weights; a :class:`TensorStream` is what a writer
takes: every name, shape and type first, then one tensor after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch
from torch import Tensor, nn

from nemo_cosmos.errors import CheckpointError, NumericsError, counted

MAX_NAMED = 4

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class TensorSpec:
    """Shape and type of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    @classmethod
    def of(cls, tensor: Tensor) -> TensorSpec:
        """Return the spec of a tensor."""
        return cls(tuple(tensor.shape), tensor.dtype)


class TensorSource(Protocol):
    """Weights in a file or folder."""

    @property
    def place(self) -> str:
        """The source's name in messages."""
        ...

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Shape and type of every tensor."""
        ...

    def read(self, name: str) -> Tensor:
        """Return one tensor, in memory of its own."""
        ...


class PartSource(TensorSource, Protocol):
    """Weights of which a part can be read alone."""

    def read_part(self, name: str, part: tuple[slice, ...]) -> Tensor:
        """Return a rectangular part of one tensor; all of it for no slices."""
        ...


@dataclass(frozen=True)
class TensorStream:
    """What a writer takes.

    Attributes:
        specs: shape and type of every tensor, in the order in which they come.
        tensors: pairs of name and tensor in that order, each made on request.
    """

    specs: Mapping[str, TensorSpec]
    tensors: Iterable[tuple[str, Tensor]]


class MemorySource:
    """A state dict as a source, for small models and those that are in memory anyway."""

    def __init__(self, state: Mapping[str, object], place: str = "the state dict") -> None:
        self.place = place
        self._state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        self.specs = {name: TensorSpec.of(value) for name, value in self._state.items()}

    def read(self, name: str) -> Tensor:
        """Return the tensor itself, moved to the CPU unless it is on the meta device."""
        tensor = self._state[name].detach()
        return tensor if tensor.is_meta else tensor.cpu()


def shapes_of(specs: Mapping[str, TensorSpec]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes."""
    return {name: spec.shape for name, spec in specs.items()}


def stream_of(source: TensorSource) -> TensorStream:
    """Return all tensors of a source under their own names."""
    return TensorStream(source.specs, ((name, source.read(name)) for name in source.specs))


def named_tensors(net: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, without the bookkeeping of other libraries."""
    return {
        name: value
        for name, value in net.state_dict().items()
        if isinstance(value, Tensor) and not name.endswith("_extra_state")
    }


def check_finite(tensors: Iterable[tuple[str, Tensor]], where: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        NumericsError: names the first tensor that holds them.
    """
    for name, value in tensors:
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise NumericsError(
                f"NaN or infinity in '{name}' of {where}. The training diverged or the file is "
                "damaged; go back to an earlier checkpoint, with a lower learning rate if needed."
            )


def finite(tensors: Iterable[tuple[str, Tensor]], place: str) -> Iterator[tuple[str, Tensor]]:
    """Pass tensors on, and stop at the first that holds NaN or infinity.

    Raises:
        NumericsError: names it.
    """
    for name, tensor in tensors:
        check_finite([(name, tensor)], place)
        yield name, tensor


def watched(
    tensors: Iterable[tuple[str, Tensor]],
    specs: Mapping[str, TensorSpec],
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[str, Tensor]]:
    """Pass tensors on, and report the bytes done and the total after each."""
    total, done = sum(spec.num_bytes for spec in specs.values()), 0
    for name, tensor in tensors:
        yield name, tensor
        done += specs[name].num_bytes
        if progress is not None:
            progress(done, total)


def fit_problems(expected: Shapes, found: Shapes) -> list[str]:
    """Describe what is missing, unexpected or of another shape, with a few names of each.

    Returns:
        One text a kind of problem; none where everything fits.
    """
    reshaped = [
        f"{name} {found[name]} instead of {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]
    kinds = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "of another shape": reshaped,
    }
    return [named_few(names, what) for what, names in kinds.items() if names]


def named_few(names: Sequence[str], what: str) -> str:
    """Count names, and list the first few: ``7 missing (a, b, c, d, ...)``."""
    listed = ", ".join([*names[:MAX_NAMED], *["..."] * (len(names) > MAX_NAMED)])
    return f"{len(names)} {what} ({listed})" if names else f"0 {what}"


def check_fit(expected: Shapes, found: Shapes, place: str, model: str, advice: str) -> None:
    """Compare the names and shapes in a file with those that a model has.

    Args:
        expected: names and shapes of the model's tensors.
        found: names and shapes in the file.
        place: the file's name in the message.
        model: the model's name in the message.
        advice: the message's last sentence.

    Raises:
        CheckpointError: they differ; one message names what is missing, unexpected or misshapen.
    """
    problems = fit_problems(expected, found)
    if problems:
        matched = sum(found.get(name) == shape for name, shape in expected.items())
        raise CheckpointError(
            f"'{place}' does not hold the weights of {model}: of "
            f"{counted(len(expected), 'tensor')} expected, {matched} matched; "
            f"{'; '.join(problems)}. {_renamed(expected, found)}{advice}"
        )


def _renamed(expected: Shapes, found: Shapes) -> str:
    """A sentence about names that all begin with words too many, or lack them; else nothing."""
    if not found or not expected or expected.keys() & found.keys():
        return ""
    for longer, shorter, words in (
        (found, expected, "begins with '{}', which the model's names do not"),
        (expected, found, "lacks the '{}' that the model's names begin with"),
    ):
        some = next(iter(longer))
        for place in (index for index, letter in enumerate(some, 1) if letter == "."):
            prefix = some[:place]
            cut = {name.removeprefix(prefix) for name in longer if name.startswith(prefix)}
            if len(cut) == len(longer) and len(cut & shorter.keys()) > len(shorter) // 2:
                return f"Every name in the file {words.format(prefix)}. "
    return ""
