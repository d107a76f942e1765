"""Text to typed values."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from recipes.values import ValueMismatchError, parse_value


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("text", "annotation", "expected"),
    [
        ("3", int, 3),
        ("1e-4", float, 1e-4),
        ("true", bool, True),
        ("64", str, "64"),
        ("64", Any, 64),
        ("1e-4", Any, 1e-4),
        ("none", Any, None),
        ("[1, a]", Any, [1, "a"]),
        ("none", int | None, None),
        ("5", int | None, 5),
        ("0.5", int | float, 0.5),
        ("x", str | None, "x"),
        ("b", Literal["a", "b"], "b"),
        ("[1, 2]", tuple[int, int], (1, 2)),
        ("[a, b]", Sequence[str], ["a", "b"]),
        ("[[1, 2], [3, 4]]", Sequence[tuple[int, int]], [(1, 2), (3, 4)]),
        ("{a: 1}", dict[str, int], {"a": 1}),
        ("/x/y z", Path, Path("/x/y z")),
        ("RED", Colour, Colour.RED),
    ],
)
def test_values(text, annotation, expected):
    value = parse_value(text, annotation)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("text", "annotation", "message"),
    [
        ("abc", int, "a whole number"),
        ("1.5", int, "a whole number"),
        ("abc", float, "a number"),
        ("nan", float, "a finite number"),
        ("-inf", float | None, "a finite number"),
        (".nan", Any, "a finite number"),
        ("yes", bool, "true or false"),
        ("c", Literal["a", "b"], "'a', 'b'"),
        ("x", int | None, "none or a whole number"),
        ("5", list[int], "a list"),
        ("5", dict[str, int], "a mapping"),
        ("BLUE", Colour, "'RED'"),
        ("x", Colour | None, "none or one of 'RED'"),
        ("3", slice, "a slice, which is set by its own keys"),
        ("x", None, "none"),
    ],
)
def test_mismatches(text, annotation, message):
    with pytest.raises(ValueMismatchError, match=message):
        parse_value(text, annotation)
