"""Which form of an elementwise step is computed: chosen by the configuration and the device."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import kernel_choice
from nemo_cosmos.platform.patches.compiler import allow_many_graphs

MODES = ("auto", "plain")
"""The values of a configuration's ``fused``."""


class Region:
    """One elementwise step.

    Args:
        formula: what is computed; autograd differentiates it.
        written: the same with its gradients written out, for a CPU.
    """

    def __init__(self, formula: Callable[..., Any], written: Callable[..., Any]) -> None:
        self.formula = formula
        self.written = written

    def __call__(self, x: torch.Tensor, *others: Any, mode: str = "auto") -> Any:
        """Compute the step.

        Args:
            x: tokens first, (L, ...).
            *others: the formula's further arguments.
            mode: the configuration's ``fused``, one of :data:`MODES`.
        """
        if mode == "plain":
            return self.formula(x, *others)
        if x.is_cuda and kernel_choice.compiles():
            return self.compiled(*any_length(x, *others))
        return self.written(x, *others)

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        """The formula in one kernel a direction.

        torch decides what is kept for the backward pass: the inputs and a number or two for each
        token, from which the rest is computed again.
        """
        return self.compiled_by("inductor")

    def compiled_by(self, backend: str | Callable[..., Any]) -> Callable[..., Any]:
        """Compile the formula by a backend of torch's compiler.

        Args:
            backend: the backend or its name.
        """
        allow_many_graphs()
        compiled: Callable[..., Any] = torch.compile(self.formula, backend=backend)
        return compiled


def any_length(x: torch.Tensor, *others: Any) -> tuple[Any, ...]:
    """Mark the axis of tokens, so that one kernel serves videos, images and packs of any length.

    Args:
        x: tokens first.
        *others: a formula's further arguments, of which some have the same axis.

    Returns:
        All of them.
    """
    for each in (x, *others):
        if isinstance(each, torch.Tensor) and each.dim() and len(each) == len(x):
            torch._dynamo.maybe_mark_dynamic(each, 0)
    return x, *others


def check_mode(mode: str) -> None:
    """Require a known mode.

    Raises:
        ConfigError: it is none of :data:`MODES`.
    """
    if mode not in MODES:
        raise ConfigError(
            f"fused={mode!r} is unknown. Use 'auto' for the fastest form that this device has, or "
            "'plain' for the formulas as they stand."
        )


def form(mode: str, device: torch.device) -> str:
    """Return in one word what computes the elementwise steps: compiled, written or plain."""
    if mode == "plain":
        return "plain"
    return "compiled" if device.type == "cuda" and kernel_choice.compiles() else "written"
