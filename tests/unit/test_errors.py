"""The exception tree is what its docstring draws, and errors are caught as what they are."""

from __future__ import annotations

import re

import pytest

from nemo_cosmos import errors
from nemo_cosmos.errors import NemoCosmosError, counted, nearest_names

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, Exception)
}


def drawn_tree() -> dict[str, str]:
    """Class to parent, read from the drawing; depth is the column of the name."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([\s│├└─]*)([A-Z]\w*Error|Cancelled|Preempted)\b", line)
        if match is None:
            continue
        depth, name = len(match[1]), match[2]
        above = [entry for entry in above if entry[0] < depth]
        if above:
            parents[name] = above[-1][1]
        above.append((depth, name))
    return parents


def test_drawing_is_the_tree():
    actual = {
        name: value.__bases__[0].__name__
        for name, value in CLASSES.items()
        if value is not NemoCosmosError
    }
    assert drawn_tree() == actual


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InputError", ValueError),
        ("VideoError", ValueError),
        ("StorageFullError", OSError),
        ("MissingDependencyError", ImportError),
    ],
)
def test_builtin_parents(name, builtin):
    assert issubclass(CLASSES[name], builtin)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_message_is_what_is_printed(name):
    error = CLASSES[name]("What was wrong. What to do.")
    assert str(error) == "What was wrong. What to do."
    assert isinstance(error, NemoCosmosError)
    assert CLASSES[name].__doc__


class TestNearestNames:
    def test_closest_first(self):
        names = ["diffusion_7b_text2world", "diffusion_14b_text2world", "tokenizer_cv8x8x8"]
        assert nearest_names("diffusion_7b_text2wrld", names).startswith(
            "'diffusion_7b_text2world'"
        )

    def test_nothing_close_gives_the_first_ones(self):
        assert nearest_names("zzzz", ["b", "a"]) == "'a', 'b'"

    def test_limit(self):
        assert nearest_names("x", [f"x{number}" for number in range(9)], limit=2).count("'") == 4

    def test_no_names(self):
        assert nearest_names("x", []) == ""


def test_numbers_of_things() -> None:
    assert [counted(n, "shard") for n in (0, 1, 2)] == ["0 shards", "1 shard", "2 shards"]
    assert counted(1, "copy", "copies") == "1 copy" and counted(3, "copy", "copies") == "3 copies"
