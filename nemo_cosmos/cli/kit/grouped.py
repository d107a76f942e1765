"""Options that several commands share as one parameter: a dataclass whose fields are options.

::

    @dataclass(frozen=True)
    class Setting:
        precision: Precision = "auto"
        tensor_parallel: TensorParallel = 1

    @grouped
    def generate(model: Model, *, setting: Setting) -> None: ...

The command line has ``--precision`` and ``--tensor-parallel``; the command gets a ``Setting``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def grouped(command: CommandT) -> CommandT:
    """Give a command the fields of each parameter that is a dataclass, in that parameter's place.

    Args:
        command: a command.
    """
    signature = inspect.signature(command, eval_str=True)
    groups = {
        name: item.annotation
        for name, item in signature.parameters.items()
        if isinstance(item.annotation, type) and is_dataclass(item.annotation)
    }
    shown = [
        parameter
        for name, item in signature.parameters.items()
        for parameter in (_parameters(groups[name], item.kind) if name in groups else (item,))
    ]

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        for name, kind in groups.items():
            given[name] = kind(**{item.name: given.pop(item.name) for item in fields(kind)})
        return command(**given)

    run.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    run.__annotations__ = {item.name: item.annotation for item in shown}
    return run  # type: ignore[return-value]  # the same command, with its groups spread out


def _parameters(group: type[Any], kind: Any) -> Iterator[inspect.Parameter]:
    """Yield a parameter for each field, with its default."""
    hints = get_type_hints(group, include_extras=True)
    for item in fields(group):
        yield inspect.Parameter(item.name, kind, default=item.default, annotation=hints[item.name])
