"""Embodiments: what each number of an action means, for one kind of robot, camera or vehicle.

The table is ``conf/embodiments.yaml``; a file of the same form adds a user's own::

    find_embodiment("bridge_7")
    find_embodiment("robots.yaml:my_arm")
    find_embodiment("inspected.json")      # of 'nemo-cosmos dataset inspect'

A world folder holds the whole record in the options of its control, so that it says what it is told
in without the table. Nothing here imports torch.

Shape suffixes: N actions, A numbers of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np

from nemo_cosmos.aliases import Array, JsonObject
from nemo_cosmos.controls.number_group import (
    ADDABLE_FORMS,
    EXPECTED_ROTATIONS,
    NumberGroup,
    are_no_rotations,
    capital,
    read_groups,
    read_number,
    read_numbers,
    read_record,
    read_text,
    read_word,
    spans,
)
from nemo_cosmos.errors import ConfigError, MissingFileError, nearest_names

EMBODIMENT = "embodiment"
"""Entry of a recording's JSON: the name of what its actions are of."""
DEFAULT_EMBODIMENT = "bridge_7"
"""Of recordings and worlds that were made before either named its embodiment."""
UPRIGHT, TURNED = "upright", "turned_180"
_ENDINGS = (".yaml", ".yml", ".json")

Given: TypeAlias = "str | PathLike[str] | Mapping[str, Any] | Embodiment"
"""An embodiment as a person gives it: a name, a file, a record, or itself."""


@dataclass(frozen=True)
class Embodiment:
    """What an action of one kind of robot, camera or vehicle consists of.

    Attributes:
        name: its name in the table.
        title: what it is, for people.
        numbers: its numbers in their order.
        rate_hz: actions a second; None where any rate is usual.
        image: ``upright``, or ``turned_180`` where the camera hangs upside down.
        state: the numbers of ``state.npy``, where its data sets have one.
        mean: mean of each number over the training data, as files hold them; None: not measured.
        std: standard deviation of each.
    """

    name: str
    title: str
    numbers: tuple[NumberGroup, ...]
    rate_hz: float | None = None
    image: str = UPRIGHT
    state: tuple[NumberGroup, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def width(self) -> int:
        """Numbers of an action."""
        return sum(group.width for group in self.numbers)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each number."""
        return tuple(name for group in self.numbers for name in group.names)

    @property
    def adds_up(self) -> tuple[int, ...]:
        """The places of the numbers whose sum says where the parts are."""
        return tuple(
            place
            for group, columns in spans(self.numbers)
            if group.adds_up
            for place in range(columns.start, columns.stop)
        )

    def with_statistics(self, mean: Iterable[float], std: Iterable[float]) -> Embodiment:
        """The same with statistics of its numbers.

        Raises:
            ConfigError: they are not one for each number, or a deviation is not above 0.
        """
        record = {**self.to_dict(), "mean": list(mean), "std": list(std)}
        return self.from_dict(record, f"the embodiment '{self.name}'")

    def find_row_fault(self, actions_NA: Array) -> str | None:
        """Say which row is no action, where its width is right; None where nothing is wrong."""
        for group, columns in spans(self.numbers):
            if group.kind == "rotation" and (group.form or "") not in ADDABLE_FORMS:
                rows = np.asarray(actions_NA[:, columns], np.float64) / group.scale
                bad = np.flatnonzero(are_no_rotations(rows, str(group.form)))
                if bad.size:
                    expected = EXPECTED_ROTATIONS[str(group.form)]
                    return (
                        f"holds no rotation in row {bad[0]} ({', '.join(group.names)}): "
                        f"{rows[bad[0]].round(3).tolist()}. Expected {expected}, as the "
                        f"embodiment '{self.name}' says. Write the file again in that form."
                    )
        return None

    def to_dict(self) -> JsonObject:
        """Return plain data, as files and world folders hold them."""
        record: JsonObject = {"name": self.name, "title": self.title}
        if self.rate_hz is not None:
            record["rate_hz"] = self.rate_hz
        record |= {"image": self.image, "numbers": [group.to_dict() for group in self.numbers]}
        if self.state:
            record["state"] = [group.to_dict() for group in self.state]
        if self.mean is not None and self.std is not None:
            record |= {"mean": list(self.mean), "std": list(self.std)}
        return record

    @classmethod
    def from_dict(cls, data: object, place: str) -> Self:
        """Read a record; every name in it must mean something.

        Args:
            data: the record.
            place: where it stands, for messages.

        Raises:
            ConfigError: says what is wrong with which entry, and what is expected.
        """
        record = read_record(data, place, [item.name for item in fields(cls)], ("name", "numbers"))
        rate = record.get("rate_hz")
        made = cls(
            name=read_text(record, "name", place),
            title=read_text(record, "title", place) if "title" in record else "",
            numbers=read_groups(record["numbers"], f"{place}, numbers"),
            rate_hz=None if rate is None else read_number(rate, f"rate_hz of {place}"),
            image=read_word(record.get("image", UPRIGHT), f"image of {place}", (UPRIGHT, TURNED)),
            state=read_groups(record.get("state") or [], f"{place}, state", may_be_empty=True),
            mean=read_numbers(record.get("mean"), f"mean of {place}"),
            std=read_numbers(record.get("std"), f"std of {place}"),
        )
        made._check_statistics(place)
        return made

    def _check_statistics(self, place: str) -> None:
        if (self.mean is None) != (self.std is None):
            raise ConfigError(f"{capital(place)} has one of 'mean' and 'std'; give both or none.")
        if self.mean is None or self.std is None:
            return
        if not len(self.mean) == len(self.std) == self.width or min(self.std) <= 0:
            raise ConfigError(
                f"{capital(place)} has {self.width} numbers, but statistics of {len(self.mean)} "
                f"(mean) and {len(self.std)} (std); expected {self.width} means and as many "
                "standard deviations above 0. 'nemo-cosmos dataset inspect' measures them."
            )


def find_embodiment(given: Given) -> Embodiment:
    """Return an embodiment by what a person gives.

    Args:
        given: a name of the table, ``FILE`` or ``FILE:NAME`` of a YAML or JSON file, or a record.

    Raises:
        ConfigError: there is none of that name, or a record is wrong; says where.
        MissingFileError: there is no such file.
    """
    if isinstance(given, Embodiment):
        return given
    if isinstance(given, Mapping):
        return Embodiment.from_dict(given, f"the embodiment '{given.get('name', '')}'")
    if not isinstance(given, str | PathLike):
        raise ConfigError(
            f"The embodiment is {given!r:.80} ({type(given).__name__}); expected a name, such as "
            "'bridge_7', or a file, such as 'robots.yaml:my_arm'."
        )
    text = str(given)
    file, _, name = text.rpartition(":") if not text.endswith(_ENDINGS) else (text, "", "")
    if file.endswith(_ENDINGS):
        return _from_file(Path(file), name)
    table = built_in_embodiments()
    if text not in table:
        raise ConfigError(
            f"There is no embodiment '{text}'. The table has {nearest_names(text, table, 9)}; one "
            "of your own is FILE.yaml:NAME (docs/embodiments.md)."
        )
    return table[text]


@cache
def built_in_embodiments() -> dict[str, Embodiment]:
    """The table ``conf/embodiments.yaml``."""
    from nemo_cosmos.home import conf_folder

    return read_embodiments(conf_folder() / "embodiments.yaml")


def read_embodiments(file: str | PathLike[str]) -> dict[str, Embodiment]:
    """Read a YAML or JSON file: records by their names, or one record alone.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: it is damaged, or a record is wrong.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no file '{file}' of embodiments.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"'{file}' cannot be read as YAML: {reason}.") from error
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(
            f"'{file}' holds no embodiments; expected names, each with a record (docs/embodiments"
            ".md), as in conf/embodiments.yaml."
        )
    if isinstance(content.get("embodiment"), Mapping):  # the report of 'dataset inspect'
        content = content["embodiment"]
    if "numbers" in content:
        one = Embodiment.from_dict(content, f"the embodiment in '{file}'")
        return {one.name: one}
    found = {}
    for name, record in content.items():
        place = f"'{name}' in '{file}'"
        named = {"name": str(name), **record} if isinstance(record, Mapping) else record
        found[str(name)] = Embodiment.from_dict(named, place)
    return found


def of_width(width: int) -> list[str]:
    """Names of the table's embodiments whose actions are so wide."""
    return [name for name, one in built_in_embodiments().items() if one.width == width]


def unknown_embodiment(width: int) -> Embodiment:
    """An embodiment of which nothing but the width is known."""
    names = tuple(f"a{place}" for place in range(width))
    group = NumberGroup("robot", "other", names, "unknown", "absolute")
    return Embodiment(f"unknown_{width}", "numbers of unknown meaning", (group,))


def _from_file(file: Path, name: str) -> Embodiment:
    found = read_embodiments(file)
    if not name and len(found) == 1:
        return next(iter(found.values()))
    if name not in found:
        raise ConfigError(
            f"'{file}' has no embodiment '{name}'; it has {nearest_names(name, found, 9)}. Write "
            f"{file}:NAME."
        )
    return found[name]
