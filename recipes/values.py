"""Text from a command line to a value of the type that a parameter is annotated with."""

from __future__ import annotations

import collections.abc
import enum
import inspect
import json
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml

NONE_WORDS = frozenset({"none", "null"})
BOOL_WORDS = {"true": True, "false": False}


class ValueMismatchError(ValueError):
    """The text is not a value of the type; the message says what is expected."""


def parse_value(text: str, annotation: object) -> object:
    """Read ``text`` as a value of type ``annotation``.

    Args:
        text: such as ``"100"``, ``"1e-4"``, ``"[1, 2]"``, ``"none"``.
        annotation: a resolved type hint. Where there is none (``Any``), YAML decides.

    Raises:
        ValueMismatchError: the text does not fit.
    """
    origin = get_origin(annotation)
    if annotation in (Any, inspect.Parameter.empty, object):
        return _parse_freely(text)
    if origin is Literal:
        return _parse_literal(text, get_args(annotation))
    if origin in (Union, types.UnionType):
        return _parse_union(text, get_args(annotation))
    if origin is typing.Annotated:
        return parse_value(text, get_args(annotation)[0])
    if annotation is None or annotation is type(None):
        if text.lower() in NONE_WORDS:
            return None
        raise ValueMismatchError("none")
    return _parse_class(text, origin or annotation, get_args(annotation))


def _parse_class(text: str, kind: object, arguments: tuple[object, ...]) -> object:
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in BOOL_WORDS:
            return BOOL_WORDS[text.lower()]
        raise ValueMismatchError("true or false")
    if kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            raise ValueMismatchError("a whole number" if kind is int else "a number") from None
        return _finite(number)
    if isinstance(kind, type) and issubclass(kind, Path):
        return kind(text)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _parse_enum(text, kind)
    if kind in (list, tuple, set, frozenset, collections.abc.Sequence):
        return _parse_sequence(text, kind, arguments)
    if kind in (dict, collections.abc.Mapping):
        value = _load(text)
        if isinstance(value, dict):
            return value
        raise ValueMismatchError("a mapping such as {a: 1}")
    raise ValueMismatchError(f"a {getattr(kind, '__name__', kind)}, which is set by its own keys")


def _parse_union(text: str, members: tuple[object, ...]) -> object:
    # None first and str last: both would otherwise hide the other members.
    order = sorted(members, key=lambda member: (member is not type(None), member is str))
    expected = []
    for member in order:
        try:
            return parse_value(text, member)
        except ValueMismatchError as mismatch:
            expected.append(str(mismatch))
    raise ValueMismatchError(" or ".join(expected))


def _parse_literal(text: str, choices: tuple[object, ...]) -> object:
    for choice in choices:
        if str(choice) == text:
            return choice
    raise ValueMismatchError("one of " + ", ".join(f"'{choice}'" for choice in choices))


def _parse_enum(text: str, kind: type[enum.Enum]) -> enum.Enum:
    if text in kind.__members__:
        return kind[text]
    raise ValueMismatchError("one of " + ", ".join(f"'{name}'" for name in kind.__members__))


def _parse_sequence(text: str, kind: Any, arguments: tuple[object, ...]) -> object:
    value = _load(text)
    if not isinstance(value, list):
        raise ValueMismatchError("a list such as [1, 2]")
    element = next((argument for argument in arguments if argument is not Ellipsis), Any)
    items = [parse_value(_as_text(item), element) for item in value]
    return items if kind is collections.abc.Sequence else kind(items)


def _parse_freely(text: str) -> object:
    if text.lower() in NONE_WORDS:
        return None
    value = _load(text)
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return _finite(float(value))
        except ValueMismatchError:
            raise
        except ValueError:
            return value
    return _finite(value)


def _finite(value: object) -> object:
    """Return a value that is not NaN or infinity: no key of a recipe means one."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueMismatchError("a finite number")
    return value


def _load(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _as_text(item: object) -> str:
    return item if isinstance(item, str) else json.dumps(item)
