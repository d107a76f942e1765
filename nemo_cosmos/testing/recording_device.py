"""A device that computes nothing and records what the host waits for and copies.

torch's meta device stands in for a GPU: its tensors have shapes and no numbers, so a whole step
runs on it with gradients, on any machine, in the order in which a GPU would get its kernels.
Whatever needs a number on the host (``item()``, ``bool(tensor)``, a mask as an index) is recorded
with the function that asks, and answered with one; copies between host and device are recorded.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("meta")
PACKAGES = ("nemo_cosmos", "post_training", "megatron", "nemo", "lightning")
"""Packages whose functions are named; those of torch itself are not."""

_aten = torch.ops.aten
_ONE_NUMBER = {
    _aten._local_scalar_dense.default,
    _aten.is_nonzero.default,
    _aten.equal.default,
    _aten.allclose.default,
}
_SIZE_BY_NUMBERS = {
    _aten.nonzero.default,
    _aten.masked_select.default,
    _aten._unique2.default,
    _aten.unique_consecutive.default,
    _aten.unique_dim.default,
    _aten.bincount.default,
    _aten.repeat_interleave.Tensor,  # its size is the sum of the repeats
}
_COPIES = {_aten._to_copy.default, _aten.copy_.default}


@dataclass(frozen=True)
class Event:
    """Something between the host and the device.

    Attributes:
        kind: ``"wait"``, ``"upload"`` or ``"download"``.
        place: the file and function that asked, such as ``"training_step.py:prepare_step"``.
        operation: the operation's name.
        shape: shape of the tensor.
    """

    kind: str
    place: str
    operation: str
    shape: tuple[int, ...]


@dataclass
class Recording(TorchDispatchMode):
    """Within the block, record what the host waits for and copies.

    Attributes:
        device: the device; with the CPU, numbers are real, and all tensors count as on the device.
        events: what was recorded, in order.
        num_operations: number of operations on the device.
    """

    device: torch.device = DEVICE
    events: list[Event] = field(default_factory=list)
    num_operations: int = 0

    def __post_init__(self) -> None:
        """Set up the mode."""
        super().__init__()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Record an operation, and run it unless its result is a number that nobody has."""
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_device = any(tensor.device == self.device for tensor in tensors)
        if func in _COPIES:
            self._copy(func, tensors, kwargs)
        elif on_device and self._waits(func, args):
            self._note("wait", func, tensors[0])
            if func in _ONE_NUMBER and self.device == DEVICE:
                return _number(func, tensors[0])
        self.num_operations += on_device
        return func(*args, **kwargs)

    def of_kind(self, kind: str) -> list[Event]:
        """Return the events of a kind."""
        return [event for event in self.events if event.kind == kind]

    def _waits(self, func: Callable[..., Any], args: tuple[Any, ...]) -> bool:
        if func in _ONE_NUMBER or func in _SIZE_BY_NUMBERS:
            return True
        if func in (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default):
            return any(index is not None and index.dtype == torch.bool for index in args[1])
        return False

    def _copy(
        self, func: Callable[..., Any], tensors: list[torch.Tensor], kwargs: dict[str, Any]
    ) -> None:
        if func is _aten.copy_.default:
            to, source = tensors[0].device, tensors[1]
        else:
            source = tensors[0]
            to = torch.device(kwargs.get("device") or source.device)
        if to != source.device:
            self._note("upload" if to == self.device else "download", func, source)

    def _note(self, kind: str, func: Callable[..., Any], tensor: torch.Tensor) -> None:
        self.events.append(Event(kind, _asking_function(), str(func), tuple(tensor.shape)))


def _number(func: Callable[..., Any], tensor: torch.Tensor) -> bool | int | float:
    if func is not _aten._local_scalar_dense.default or tensor.dtype == torch.bool:
        return True
    return 1.0 if tensor.dtype.is_floating_point else 1


def _asking_function() -> str:
    """The innermost function of ours or of what trains for us."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if "testing" not in path.parts and any(name in path.parts for name in PACKAGES):
            return f"{path.name}:{frame.name}"
    return "elsewhere"
