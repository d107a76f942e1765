"""Options that a person sets: dataclasses whose fields say their help, type and range.

::

    @dataclass(frozen=True)
    class DiffusionOptions:
        steps: int = option(35, "Sampling steps.", least=1)

    build_options(DiffusionOptions, {"steps": 20})   # checked: names, types and ranges
    check_fields(settings)                           # checks a dataclass that was built directly

Python users, the command line and a server set the same fields and get the same errors. Nothing
heavy is imported here, so that ``--help`` can be made of such a dataclass.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from nemo_cosmos.errors import ConfigError, nearest_names

T = TypeVar("T")
OptionsT = TypeVar("OptionsT")

_ARTICLES = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}


@dataclass(frozen=True)
class Range:
    """The values that an option may have.

    Attributes:
        least: smallest legal value.
        above: bound that the value must exceed.
        most: largest legal value.
        choices: the legal words.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> None:
        """Refuse a value outside the range.

        Raises:
            ConfigError: names the option, the value and what is legal.
        """
        if self.choices and value not in self.choices:
            raise ConfigError(
                f"{name} takes no '{value}'. The nearest are "
                f"{nearest_names(str(value), self.choices)}."
            )
        bounds = ((self.least, operator.ge), (self.above, operator.gt), (self.most, operator.le))
        # NaN compares as False with everything, so that no bound holds for it.
        if not all(bound is None or holds(value, bound) for bound, holds in bounds):
            raise ConfigError(f"{name} is {value}; it must be {self.words()}.")

    def words(self) -> str:
        """The bounds in words, such as ``0 to 51`` or ``above 0``; empty without any."""
        if self.least is not None and self.most is not None and self.above is None:
            return f"{self.least:,.10g} to {self.most:,.10g}"
        wanted = (
            (self.least, "{:,.10g} or more"),
            (self.above, "above {:,.10g}"),
            (self.most, "at most {:,.10g}"),
        )
        return " and ".join(text.format(bound) for bound, text in wanted if bound is not None)


def option(
    default: T,
    help: str,
    *,
    flag: str = "",
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    choices: Iterable[str] = (),
) -> T:
    """Make a dataclass field that a person can set.

    Args:
        default: the value when it is not set.
        help: its line in ``--help``.
        flag: its name on the command line; by default ``--field-name``.
        least: smallest legal value.
        above: bound that the value must exceed.
        most: largest legal value.
        choices: the legal words.
    """
    legal = Range(least, above, most, tuple(choices))
    made: T = field(default=default, metadata={"help": help, "flag": flag, "range": legal})
    return made


def limited(
    default: T, *, least: float | None = None, above: float | None = None, most: float | None = None
) -> T:
    """Make a dataclass field with a range, which only Python users set: no command offers it.

    Args:
        default: the value when it is not set.
        least: smallest legal value.
        above: bound that the value must exceed.
        most: largest legal value.
    """
    made: T = field(default=default, metadata={"range": Range(least, above, most)})
    return made


def option_fields(cls: type[Any]) -> list[Field[Any]]:
    """Return the fields of a dataclass that :func:`option` made."""
    return [item for item in fields(cls) if "help" in item.metadata]


def build_options(cls: type[OptionsT], values: Mapping[str, object], **known: object) -> OptionsT:
    """Build an options dataclass from values by name, each checked.

    Args:
        cls: the dataclass.
        values: what a person set.
        **known: fields that are no options, taken as they are.

    Raises:
        ConfigError: an unknown name, or a value of another type or outside its range.
    """
    items = {item.name: item for item in option_fields(cls)}
    check_names(values, items)
    hints = get_type_hints(cls)
    chosen = {
        name: check_value(name, value, hints[name], items[name].metadata["range"])
        for name, value in values.items()
    }
    return cls(**chosen, **known)


def check_fields(settings: object) -> None:
    """Check every field of a dataclass that has a range; for its ``__post_init__``.

    Raises:
        ConfigError: a value of another type, NaN, infinity, or a value outside the range.
    """
    kind = type(settings)
    hints = get_type_hints(kind)
    for item in fields(kind):  # type: ignore[arg-type]  # any dataclass
        if "range" in item.metadata:
            check_value(
                item.name, getattr(settings, item.name), hints[item.name], item.metadata["range"]
            )


def build_from_file(cls: type[OptionsT], values: object, place: str) -> OptionsT:
    """Build a dataclass from a part of a JSON file, without overlooking a field.

    A name that the dataclass does not know would be ignored, and one that is missing would take a
    default that the file's writer may not have had.

    Args:
        cls: the dataclass, all of whose fields the file holds.
        values: what the file holds.
        place: its name in the file, such as ``process.edm``.

    Raises:
        ConfigError: a name that is unknown or missing, or a value of another type.
    """
    hints = get_type_hints(cls)
    names = [item.name for item in fields(cls)]  # type: ignore[arg-type]  # any dataclass
    content = check_record(values, place, names, required=names)
    read: OptionsT = cls(
        **{name: check_value(f"{place}.{name}", content[name], hints[name]) for name in names}
    )
    return read


def check_record(
    values: object, place: str, known: Iterable[str], *, required: Iterable[str] = ()
) -> Mapping[str, Any]:
    """Return a part of a JSON file whose names are all known.

    Args:
        values: what the file holds.
        place: its name in the file, such as ``network``.
        known: the names that mean something.
        required: those without which it means nothing.

    Raises:
        ConfigError: it is no object, or has a name that is unknown or lacks one.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"'{place}' is {values!r:.80}; expected an object of names and values.")
    known = list(known)
    for name in values:
        if name not in known:
            raise ConfigError(
                f"'{place}' has '{name}', which means nothing here and would be ignored. The "
                f"nearest are {nearest_names(str(name), known)}. Correct it, or take it out."
            )
    missing = [name for name in required if name not in values]
    if missing:
        raise ConfigError(f"'{place}' lacks {', '.join(missing)}. Export or copy the folder again.")
    return values


def check_names(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a name that is not known.

    Raises:
        ConfigError: names the nearest that are.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"There is no option '{name}'. The nearest are {nearest_names(name, known)}."
            )


def check_value(name: str, value: Any, kind: Any, legal: Range | None = None) -> Any:
    """Return a value in its type.

    Args:
        name: the option's name, for the message.
        value: what a person gave; a NumPy scalar counts as the number that it holds.
        kind: the type: ``int``, ``float``, ``bool``, ``str``, a ``Literal`` of words or a ``tuple``
            of one of them; or one of them or None.
        legal: its range; None for any value.

    Raises:
        ConfigError: another type, NaN, infinity, or a value outside the range.
    """
    is_optional = get_origin(kind) is UnionType and NoneType in get_args(kind)
    if value is None and is_optional:
        return None
    plain = next(k for k in get_args(kind) if k is not NoneType) if is_optional else kind
    legal = legal or Range()
    if get_origin(plain) is Literal:
        legal, plain = replace(legal, choices=get_args(plain)), str
    if get_origin(plain) is tuple:
        kinds = get_args(plain)
        if not isinstance(value, tuple | list):
            raise ConfigError(
                f"{name} is {value!r:.80} ({type(value).__name__}); it must be a list, each of it "
                f"{_ARTICLES[kinds[0]]}."
            )
        if Ellipsis not in kinds and len(value) != len(kinds):
            raise ConfigError(
                f"{name} has {len(value)} values ({value!r:.80}); it must have {len(kinds)}."
            )
        return tuple(check_value(name, each, kinds[0], legal) for each in value)
    try:
        converted = _convert(value, plain)
    except (TypeError, ValueError) as error:
        wanted = ", ".join(filter(None, (_ARTICLES[plain], legal.words())))
        given = f"{value!r:.80}"
        if not (plain is float and isinstance(value, float)):  # it is NaN or infinity otherwise
            given += f" ({type(value).__name__})"
        raise ConfigError(f"{name} is {given}; it must be {wanted}.") from error
    legal.check(name, converted)
    return converted


def check_place(name: str, value: object) -> None:
    """Require the path or URL of a file or folder.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(
            f"{name} is {value!r:.80} ({type(value).__name__}); it must be the path or URL of a "
            "file or folder."
        )


def check_instance(name: str, value: object, kind: type[Any], advice: str) -> None:
    """Require an object of a class.

    Args:
        name: the argument's name.
        value: what was given.
        kind: the class.
        advice: how to make one.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise ConfigError(
            f"{name} is {value!r:.80} ({type(value).__name__}); it must be {article} "
            f"{kind.__name__}. "
            f"{advice}"
        )


def check_size(name: str, value: Any) -> None:
    """Require a size in pixels: a height and a width.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ConfigError(f"{name} is {value!r:.80}; it must be (height, width) in pixels.")
    for side in value:
        check_value(name, side, int, Range(least=1))


def _convert(value: Any, kind: type) -> Any:
    """Convert without loss, or raise TypeError or ValueError."""
    is_bool = isinstance(value, bool) or type(value).__name__ == "bool_"
    if kind is bool and is_bool:
        return bool(value)
    if kind is str and isinstance(value, str):
        return value
    if kind is int and not is_bool:
        return operator.index(value)
    if kind is float and not is_bool and not isinstance(value, str | bytes):
        number = float(value)
        if math.isfinite(number):
            return number
        raise ValueError(f"{number} is not finite")
    raise TypeError(f"not {_ARTICLES[kind]}")
