"""``key=value`` words of a command line, applied to a recipe with its types checked.

A key is a path through the recipe: ``trainer.max_steps``, ``optim.config.lr``,
``model.config.num_layers``, ``trainer.callbacks.EMA.decay`` (an element of a list by its class or
its position). Valid names are the parameters of what is configured there, so that a misspelt key is
an error before anything runs.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeAlias, Union, get_args, get_origin

import fiddle as fdl
import nemo_run as run

from nemo_cosmos.errors import ConfigError, nearest_names
from recipes.config import Config, parameters
from recipes.ranges import check_range
from recipes.values import NONE_WORDS, ValueMismatchError, parse_value

Node: TypeAlias = fdl.Buildable | list[object] | tuple[object, ...]
"""A part of a recipe that keys go into: a configured object, or a list of them."""


def apply_overrides(recipe: run.Partial, overrides: Sequence[str]) -> run.Partial:
    """Set values of a recipe.

    Args:
        recipe: the recipe, changed in place.
        overrides: words such as ``"trainer.max_steps=100"``.

    Returns:
        the recipe.

    Raises:
        ConfigError: a word without ``=``, an unknown key (with the nearest valid names), or a value
            of the wrong type or outside its range.
    """
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"'{word}' is not of the form key=value. Write for example trainer.max_steps=100."
            )
        _set(recipe, key.strip(), text.strip())
    return recipe


def _set(recipe: run.Partial, key: str, text: str) -> None:
    node: Node = recipe
    *path, leaf = key.split(".")
    walked = ""
    for name in path:
        node = _child(node, name, key, walked)
        walked = f"{walked}.{name}".lstrip(".")
    known = _check_name(node, leaf, key, walked)
    _check_no_part(node, leaf, key, text)
    try:
        value = parse_value(text, known[leaf])
    except ValueMismatchError as mismatch:
        raise ConfigError(
            f"'{text}' is not a value for '{key}': expected {mismatch}. "
            f"Write for example {_example(node, leaf, key)}."
        ) from None
    check_range(key, value)
    setattr(node, leaf, value)


def _check_no_part(node: Node, leaf: str, key: str, text: str) -> None:
    """Refuse a plain value in place of a part; ``none`` may take out one that others do without.

    Raises:
        ConfigError: names a key of the part.
    """
    part = node.__arguments__.get(leaf) if isinstance(node, fdl.Buildable) else None
    may_be_none = "." in key and text.lower() in NONE_WORDS
    if isinstance(part, fdl.Buildable) and not may_be_none:
        raise ConfigError(
            f"'{key}' is a part of the recipe with keys of its own, not a value: '{text}' cannot "
            f"take its place. Write for example {_example(node, leaf, key)}; '--dryrun' prints "
            "them all."
        )


def _child(node: Node, name: str, key: str, walked: str) -> Node:
    """The configured object one step down the path."""
    if isinstance(node, list | tuple):
        return _element(node, name, key, walked)
    known = _check_name(node, name, key, walked)
    child = node.__arguments__.get(name)
    if isinstance(child, fdl.Buildable | list | tuple):
        return child
    kind = _configurable(known[name])
    if child is None and kind is not None:
        setattr(node, name, Config(kind))
        return getattr(node, name)
    raise ConfigError(
        f"'{key}' goes below '{name}', which is {child!r} in this recipe and has no keys of its "
        f"own. Set {f'{walked}.{name}'.lstrip('.')}=... as a whole."
    )


def _element(items: Sequence[Any], name: str, key: str, walked: str) -> Node:
    """An element of a list, by its class's name or its position."""
    names = {
        getattr(fdl.get_callable(item), "__name__", str(index)): item
        for index, item in enumerate(items)
        if isinstance(item, fdl.Buildable)
    } | {str(index): item for index, item in enumerate(items)}
    if name not in names:
        raise ConfigError(
            f"There is no '{name}' in '{walked}' ('{key}'). It holds {nearest_names(name, names)}."
        )
    return names[name]


def _check_name(node: Node, name: str, key: str, walked: str) -> dict[str, object]:
    if not isinstance(node, fdl.Buildable):
        raise ConfigError(f"'{walked}' has no keys of its own ('{key}'); set it as a whole.")
    known = parameters(fdl.get_callable(node))
    if name not in known:
        prefix = f"{walked}." if walked else ""
        near = (
            nearest_names(name, known)
            .replace("', '", f"', '{prefix}")
            .replace("'", f"'{prefix}", 1)
        )
        raise ConfigError(
            f"There is no key '{key}' in this recipe: '{walked or 'the recipe'}' has no '{name}'. "
            f"The nearest valid names are {near}. '--dryrun' prints the whole configuration."
        )
    return known


def _configurable(annotation: object) -> type | None:
    """The dataclass of an optional parameter, which a key below it may fill in."""
    if get_origin(annotation) in (Union, types.UnionType, typing.Annotated):
        members = [_configurable(member) for member in get_args(annotation)]
        return next((member for member in members if member is not None), None)
    return annotation if dataclasses.is_dataclass(annotation) else None  # type: ignore[return-value]


def _example(node: fdl.Buildable, leaf: str, key: str) -> str:
    """The key with its present value, which is of the right type, or with a key below it."""
    value = node.__arguments__.get(leaf)
    if isinstance(value, fdl.Buildable):
        return f"{key}.{next(iter(parameters(fdl.get_callable(value))))}=..."
    if value is None:
        default = inspect.signature(fdl.get_callable(node)).parameters.get(leaf)
        value = None if default is None or default.default is default.empty else default.default
    if isinstance(value, bool) or value is None:
        return f"{key}={str(value).lower()}"
    return f"{key}={list(value) if isinstance(value, tuple) else value}"
