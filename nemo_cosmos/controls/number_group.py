"""Groups of neighbouring numbers of an action or a state, and how they are read from a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import numpy as np

from nemo_cosmos.aliases import Array, JsonObject
from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.options import Range, check_value

Kind: TypeAlias = Literal["position", "rotation", "opening", "joints", "other"]
Relation: TypeAlias = Literal["step", "start", "absolute"]

KINDS = ("position", "rotation", "opening", "joints", "other")
RELATIONS = ("step", "start", "absolute")
"""A change since the frame before, a change since the first frame, or a value as it is."""

ROTATION_WIDTHS: Mapping[str, int] = {
    "euler_xyz": 3, "axis_angle": 3, "quaternion_xyzw": 4, "6d": 6, "matrix": 9
}  # fmt: skip
"""Numbers of each form of a rotation; ``6d`` is the first two columns of its matrix."""
ADDABLE_FORMS = ("euler_xyz", "axis_angle")
"""Forms in which small rotations add up."""

LENGTH_UNITS = ("m", "cm", "mm")
ANGLE_UNITS = ("rad", "deg")
_ORTHONORMAL = 1e-2
"""How far columns of a 6-D rotation may be from orthonormal; float16 passes."""


@dataclass(frozen=True)
class NumberGroup:
    """Neighbouring numbers of an action that belong together.

    Attributes:
        part: what moves: ``arm``, ``left_arm``, ``camera``.
        kind: what they say of it.
        names: the name of each number.
        units: their unit, before ``scale``.
        relation: whether they are a change since the frame before (``step``), since the first
            frame (``start``), or a value as it is (``absolute``).
        frame: the axes that they are seen in: ``gripper`` (or ``camera``, ``vehicle``: the moving
            part itself, before it moves), ``base``, ``world``. Empty where there are none.
        form: the form of a rotation, one of :data:`ROTATION_WIDTHS`; None for others.
        scale: what files hold is the value in ``units`` times this.
        high: what a large opening means, ``open`` or ``closed``; None for others.
    """

    part: str
    kind: Kind
    names: tuple[str, ...]
    units: str
    relation: Relation
    frame: str = ""
    form: str | None = None
    scale: float = 1.0
    high: str | None = None

    @property
    def width(self) -> int:
        """How many numbers it has."""
        return len(self.names)

    @property
    def adds_up(self) -> bool:
        """Whether the sum of its steps says where the part is, to first order."""
        if self.relation != "step":
            return False
        return self.kind != "opening" and (self.kind != "rotation" or self.form in ADDABLE_FORMS)

    @property
    def moves_with_part(self) -> bool:
        """Whether the axes are those of the moving part, not of the room."""
        return self.frame not in ("", "base", "world")

    def to_dict(self) -> JsonObject:
        """Plain data; what is as usual is left out."""
        record: JsonObject = {"part": self.part, "kind": self.kind, "names": list(self.names)}
        record |= {"units": self.units, "relation": self.relation}
        usual: Mapping[str, object] = {"frame": "", "form": None, "scale": 1.0, "high": None}
        mine = {name: getattr(self, name) for name in usual}
        return record | {name: mine[name] for name in usual if mine[name] != usual[name]}


def spans(groups: Iterable[NumberGroup]) -> Iterator[tuple[NumberGroup, slice]]:
    """Yield each group with the columns that it has in a row."""
    begin = 0
    for group in groups:
        yield group, slice(begin, begin + group.width)
        begin += group.width


def read_groups(data: object, place: str, may_be_empty: bool = False) -> tuple[NumberGroup, ...]:
    """Read a list of groups.

    Args:
        data: the list.
        place: where it stands, for messages.
        may_be_empty: whether it may have none.

    Raises:
        ConfigError: says which group is wrong, and what is expected.
    """
    if not isinstance(data, list | tuple) or not (data or may_be_empty):
        raise ConfigError(
            f"{capital(place)} is {data!r:.60}; expected a list of groups, each with part, kind, "
            "names, units and relation."
        )
    groups = tuple(_group(one, f"group {n} of {place}") for n, one in enumerate(data, 1))
    names = [name for group in groups for name in group.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{capital(place)} has the name '{twice[0]}' twice; name each once.")
    return groups


def _group(data: object, place: str) -> NumberGroup:
    known = [item.name for item in fields(NumberGroup)]
    record = read_record(data, place, known, ("part", "kind", "names", "units", "relation"))
    names = record["names"]
    if not isinstance(names, list | tuple) or not names or not all(map(str, names)):
        raise ConfigError(
            f"Names of {place} is {names!r:.60}; expected a list of one for each number."
        )
    kind = read_word(record["kind"], f"kind of {place}", KINDS)
    group = NumberGroup(
        part=read_text(record, "part", place),
        kind=kind,  # type: ignore[arg-type]  # one of its words
        names=tuple(map(str, names)),
        units=read_text(record, "units", place),
        relation=read_word(record["relation"], f"relation of {place}", RELATIONS),  # type: ignore[arg-type]
        frame=str(record.get("frame") or ""),
        form=None if record.get("form") is None else str(record["form"]),
        scale=read_number(record.get("scale", 1.0), f"scale of {place}"),
        high=None if record.get("high") is None else str(record["high"]),
    )
    _check_kind(group, place)
    return group


def _check_kind(group: NumberGroup, place: str) -> None:
    """Require what a kind needs, and refuse what means nothing to it."""
    if group.kind == "rotation":
        form = read_word(group.form, f"form of {place}", tuple(ROTATION_WIDTHS))
        if group.width != ROTATION_WIDTHS[form]:
            raise ConfigError(
                f"{capital(place)} is a rotation of the form {form}, which has "
                f"{ROTATION_WIDTHS[form]} numbers, but names {group.width}."
            )
    elif group.form is not None:
        raise ConfigError(f"{capital(place)} has a form, which only a rotation has. Take it out.")
    if group.kind == "opening":
        read_word(group.high, f"high of {place}", ("open", "closed"))
    elif group.high is not None:
        raise ConfigError(f"{capital(place)} has 'high', which only an opening has. Take it out.")
    if group.kind == "position":
        read_word(group.units, f"units of {place}", LENGTH_UNITS)
    if group.kind in ("position", "rotation") and not group.frame:
        raise ConfigError(
            f"{capital(place)} lacks 'frame': the axes that it is seen in, such as gripper (as it "
            "stands before the motion), base, camera or world."
        )
    if group.kind == "rotation" and group.form in ADDABLE_FORMS:
        read_word(group.units, f"units of {place}", ANGLE_UNITS)


def read_record(
    data: object, place: str, known: Iterable[str], required: Iterable[str]
) -> Mapping[str, Any]:
    """Return a record all of whose names are known, and none of the required ones absent."""
    known = list(known)
    if not isinstance(data, Mapping):
        raise ConfigError(f"{capital(place)} is {data!r:.60}; expected names with values.")
    for name in data:
        if name not in known:
            raise ConfigError(
                f"{capital(place)} has '{name}', which means nothing here. The nearest are "
                f"{nearest_names(str(name), known)}."
            )
    missing = [name for name in required if data.get(name) is None]
    if missing:
        raise ConfigError(f"{capital(place)} lacks '{missing[0]}'. See docs/embodiments.md.")
    return data


def read_text(record: Mapping[str, Any], name: str, place: str) -> str:
    """Return an entry that is text."""
    return str(check_value(f"{name} of {place}", record[name], str))


def read_word(value: object, name: str, words: tuple[str, ...]) -> str:
    """Return a word that is one of some."""
    if value not in words:
        raise ConfigError(f"{capital(name)} is {value!r:.40}; expected {' or '.join(words)}.")
    return str(value)


def read_number(value: object, name: str) -> float:
    """Return a number above 0."""
    return float(check_value(name, value, float, Range(above=0)))


def read_numbers(value: object, name: str) -> tuple[float, ...] | None:
    """Return a list of numbers; None stays None."""
    if value is None:
        return None
    checked: tuple[float, ...] = check_value(name, value, tuple[float, ...])
    return checked


def capital(text: str) -> str:
    """Begin a sentence with this."""
    return text[:1].upper() + text[1:]


EXPECTED_ROTATIONS = {
    "6d": "the first two columns of a rotation matrix, orthonormal",
    "matrix": "a rotation matrix, row by row",
    "quaternion_xyzw": "a quaternion x y z w of length 1",
}
"""What a row is in each form that not every row of numbers has."""


def are_no_rotations(rows_NA: Array, form: str) -> Array:
    """Whether each row is no rotation of its form."""
    if form == "quaternion_xyzw":
        return np.asarray(np.abs(np.linalg.norm(rows_NA, axis=1) - 1) > _ORTHONORMAL)
    if form == "matrix":
        columns = np.swapaxes(rows_NA.reshape(-1, 3, 3), 1, 2)
        mirrored = np.linalg.det(columns) < 0
    else:
        columns, mirrored = rows_NA.reshape(-1, 2, 3), np.zeros(len(rows_NA), bool)
    size = columns.shape[1]
    error = np.abs(columns @ np.swapaxes(columns, 1, 2) - np.eye(size)).max(axis=(1, 2))
    return np.asarray((error > _ORTHONORMAL) | mirrored)
