"""Paths that a person gave as nothing, which a shell does where a variable is not set."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from nemo_cosmos.errors import ConfigError

#: Names of options and arguments that are paths or URLs, and therefore text.
_URLS = frozenset({"source", "output", "out", "shards", "catalogue", "known", "from_"})


def check_no_empty_place(
    command: Callable[..., None], params: Sequence[Any], words: Sequence[str]
) -> None:
    """Refuse an empty path: it would be the working folder, where a shell's variable is not set.

    Args:
        command: the command's function.
        params: its options and arguments, as typer made them.
        words: what a person gave.

    Raises:
        ConfigError: names the option.
    """
    signature = inspect.signature(command, eval_str=True).parameters
    places = {
        item.name
        for item in params
        if item.name in _URLS or "Path" in str(signature[item.name].annotation)
    }
    options = {word: item for item in params for word in (*item.opts, *item.secondary_opts)}
    arguments = [item.name for item in params if item.param_type_name == "argument"]
    for before, word in zip(["", *words], words, strict=False):
        flag, is_joined, value = word.partition("=")
        if word == "":
            option = options.get(before)
            of_option = option is not None and not getattr(option, "is_flag", False)
            names = [option.name] if option is not None and of_option else arguments
            flag = before if of_option else "An argument"
        elif is_joined and not value and flag in options:
            names = [options[flag].name]
        else:
            continue
        if not places.isdisjoint(names):
            raise ConfigError(
                f"{flag} is empty; it must be a path. Is a variable of the shell not set? The "
                "working folder is written as '.'."
            )
