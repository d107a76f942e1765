"""Conditions of a search as a person writes them: ``width>=1280``, ``scores.motion<0.1``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from nemo_cosmos.errors import ConfigError

_CONDITION = re.compile(r"\s*([\w.]+)\s*(>=|<=|!=|=|<|>)\s*(.+?)\s*")
_OPERATORS = {"=": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}


def parse_conditions(texts: Iterable[str]) -> dict[str, object]:
    """``["width>=1280"]`` as ``{"width": {"$gte": 1280}}``.

    Raises:
        ConfigError: a text is not a field, a comparison and a value.
    """
    conditions: dict[str, Any] = {}
    for text in texts:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"'{text}' is not a condition; expected a field, one of {', '.join(_OPERATORS)}, "
                "and a value, such as 'scores.motion>=0.01'."
            )
        field, operator, value = match.groups()
        conditions.setdefault(field, {})[_OPERATORS[operator]] = _value(value)
    return conditions


def _value(text: str) -> object:
    """The number that a text is, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
