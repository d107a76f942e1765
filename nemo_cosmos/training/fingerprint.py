"""A short digest of what a run was asked to do; equal arguments give equal digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import fiddle as fdl
import torch

LENGTH = 16


def fingerprint(*objects: object) -> str:
    """A digest of the arguments that NeMo recorded when each object was made.

    Objects of NeMo's ``IOMixin`` remember how they were called, as fiddle configurations; other
    objects count by their class alone.

    Args:
        *objects: such as the model, the data module and the optimiser.

    Returns:
        16 hexadecimal digits, the same in every process and on every machine.
    """
    text = repr([describe(getattr(item, "__io__", item)) for item in objects])
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def describe(value: object) -> object:
    """A value as nested lists and strings, without memory addresses."""
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return repr(value)
    if isinstance(value, Enum | Path):
        return str(value)
    if isinstance(value, fdl.Buildable):
        arguments = sorted(value.__arguments__.items())
        name = _qualified(fdl.get_callable(value))
        return [name, *([key, describe(item)] for key, item in arguments)]
    if isinstance(value, Mapping):
        return [[str(key), describe(item)] for key, item in sorted(value.items(), key=str)]
    if isinstance(value, Sequence | set | frozenset):
        return [describe(item) for item in value]
    if callable(value):
        return _qualified(value)
    if hasattr(value, "__dataclass_fields__"):
        fields = {name: getattr(value, name, None) for name in value.__dataclass_fields__}
        return [_qualified(type(value)), describe(fields)]
    return _qualified(type(value))


def _qualified(item: object) -> str:
    return f"{getattr(item, '__module__', '')}.{getattr(item, '__qualname__', type(item).__name__)}"
