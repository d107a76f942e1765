"""Options that several commands share, and options made from the fields of a dataclass.

An option has one name and one form in every command. An option that takes several names may be
repeated, and takes names with commas between them: ``--skip motion,embed`` is ``--skip motion
--skip embed``; :func:`listed` reads both.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import typer

from nemo_cosmos.errors import ConfigError, WrongSizeError
from nemo_cosmos.options import Range, check_value
from nemo_cosmos.provenance.belonging import KINDS


def typed(text: str | None) -> str | None:
    """Return text as a person typed it, in UTF-8 whatever the locale.

    In a locale without UTF-8 Python puts surrogates in place of a word's bytes. A path must keep
    them to be found again; a prompt is what they say.

    Args:
        text: a word of the command line.
    """
    if text is None:
        return None
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:  # bytes of another encoding: whoever reads the text refuses it
        return text


AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON on standard output; progress as JSON lines on stderr."),
]
Conf = Annotated[
    list[str] | None,
    typer.Option("--conf", metavar="GROUP=OPTION", help="A setting of the site. Repeatable."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Values of the recipe's keys."),
]
DisableGuard = Annotated[
    list[str] | None,
    typer.Option("--disable-guard", help="Turn off guards by name; recorded. Repeatable."),
]
EnableGuard = Annotated[
    list[str] | None,
    typer.Option("--enable-guard", help="Also ask guards that are off by default. Repeatable."),
]
Offload = Annotated[
    list[str] | None,
    typer.Option(
        "--offload",
        metavar="PART",
        help="A part that waits in the CPU's memory while others work: network, tokenizer or "
        "diffusion_decoder. Repeatable.",
    ),
]
AllowMismatch = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-mismatch",
        metavar="NAME",
        help="A difference between parts that is meant: "
        f"{', '.join(KINDS[:-1])} or {KINDS[-1]}; recorded. Repeatable.",
    ),
]
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        metavar="FOLDER[=WEIGHT]",
        help="An adapter to put on the world, <run>/adapter; =0.5 for half of it. Repeatable.",
    ),
]
Work = Annotated[
    Path | None,
    typer.Option(help="Folder that a run for a bucket works in; by default in the cache."),
]


def listed(words: Iterable[str] | None) -> tuple[str, ...]:
    """Return the names given to a repeatable option; a word may contain several, with commas."""
    parts = (part.strip() for word in words or () for part in word.split(","))
    return tuple(part for part in parts if part)


def whole_numbers(text: str, flag: str) -> tuple[int, ...]:
    """Parse ``1,2,3``.

    Args:
        text: whole numbers with commas between.
        flag: the option's name, for messages.

    Raises:
        ConfigError: it is something else.
    """
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"{flag} is '{text}'; expected whole numbers with commas between, such as 1,2,3."
        ) from error


def named_values(words: Iterable[str]) -> dict[str, Any]:
    """Parse NAME=VALUE, where a value is a number, true, false or text.

    Args:
        words: what ``--option`` was given.

    Raises:
        ConfigError: a word has another form.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise ConfigError(f"--option {word} is not NAME=VALUE, such as --option steps=12.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def parse_size(text: str) -> tuple[int, int]:
    """Parse ``96x128`` into height and width in pixels.

    Raises:
        WrongSizeError: it is not two numbers with an x between.
    """
    match = re.fullmatch(r"(\d+)\s*[xX×]\s*(\d+)", text.strip())
    if match is None:
        raise WrongSizeError(
            f"The size '{text}' is not HEIGHTxWIDTH; expected two numbers of pixels, for example "
            "--size 96x128."
        )
    return int(match[1]), int(match[2])


def number(
    help: str,
    *flags: str,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
) -> Any:
    """Make a number of a command, whose range is checked while the command line is read.

    Typer's own ``min`` and ``max`` let NaN pass.

    Args:
        help: its line in ``--help``.
        *flags: its names on the command line; by default that of the parameter.
        least: smallest legal value.
        above: bound that the value must exceed.
        most: largest legal value.

    Returns:
        What ``Annotated[int, ...]`` or ``Annotated[float, ...]`` takes.
    """
    legal = Range(least, above, most)

    shown = _help_with_range(help, legal.words())
    return typer.Option(*flags, help=shown, callback=_check_of(None, legal))


def _check_of(kind: Any, legal: Range) -> Callable[[typer.CallbackParam, Any], Any]:
    """The callback that checks an option under its own name while the command line is read.

    Args:
        kind: the type of the value; None for whichever number typer made of it.
        legal: the range.
    """

    def check(param: typer.CallbackParam, value: Any) -> Any:
        if value is None:
            return None
        plain = kind or (int if isinstance(value, int) else float)
        return check_value(max(param.opts, key=len), value, plain, legal)

    return check


CommandT = TypeVar("CommandT", bound=Callable[..., Any])
SettingsT = TypeVar("SettingsT")


class _Option(NamedTuple):
    """One field of a dataclass as an option of a command.

    Attributes:
        parameter: its name among the arguments of the command.
        item: the field, whose metadata hold ``help`` and perhaps ``flag``.
        kind: the type of the field.
        panel: its heading in the help; None for the general options.
    """

    parameter: str
    item: Field[Any]
    kind: Any
    panel: str | None

    @property
    def default(self) -> Any:
        """The default of the field."""
        factory = self.item.default_factory
        return self.item.default if factory is MISSING else factory()

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return self.item.metadata.get("flag") or "--" + self.parameter.replace("_", "-")


def with_options(**panels: type[Any]) -> Callable[[CommandT], CommandT]:
    """Give a command an option for each field of some dataclasses that has a help text.

    Options that were not given arrive as None, so that the dataclass applies its default, and a
    model of another family never sees the option. Fields of the same name are one option.

    Args:
        panels: dataclasses by the heading of their options; ``options`` is the general one.

    Returns:
        A decorator for a function that takes ``**options``, the values by the names of the fields.
    """
    found: dict[str, _Option] = {}
    for panel, settings in panels.items():
        for option in _fields(settings, "", None if panel == "options" else panel):
            found.setdefault(option.parameter, option)
    return _decorator([_unset_parameter(option) for option in found.values()])


def with_settings(
    settings: type[Any], stages: Collection[str] | None = None
) -> Callable[[CommandT], CommandT]:
    """Give a command an option for each field of the stages' settings that has a help text.

    Args:
        settings: a dataclass with a field for each stage, whose type is a dataclass.
        stages: names of the stages that the command has; by default all.

    Returns:
        A decorator for a function that takes ``**options``, which it passes on to
        :func:`settings_from`.
    """
    chosen = [
        _default_parameter(option)
        for stage, kind in _stages(settings)
        if stages is None or stage in stages
        for option in _fields(kind, f"{stage}_", f"Stage '{stage}'")
    ]
    return _decorator(chosen)


def settings_from(settings: type[SettingsT], values: Mapping[str, Any], **run: Any) -> SettingsT:
    """Build the settings from the values that the command was given.

    Args:
        settings: the stages' settings, as :func:`with_settings` takes them.
        values: values by parameter; a stage without any keeps its defaults.
        run: the other fields of the settings.

    Raises:
        ConfigError: a value is impossible.
    """
    given = {}
    for stage, kind in _stages(settings):
        options = [o for o in _fields(kind, f"{stage}_", None) if o.parameter in values]
        chosen = {o.item.name: _as_kind(values[o.parameter], o.kind) for o in options}
        if chosen:
            given[stage] = kind(**chosen)
    of_stages: Callable[..., SettingsT] | None = getattr(settings, "of_stages", None)
    return of_stages(given, **run) if of_stages else settings(**given, **run)


def _decorator(parameters: list[inspect.Parameter]) -> Callable[[CommandT], CommandT]:
    """Replace ``**options`` in a function's signature, which typer reads."""

    def decorate(function: CommandT) -> CommandT:
        signature = inspect.signature(function, eval_str=True)
        own = [item for item in signature.parameters.values() if item.kind is not item.VAR_KEYWORD]
        shown = [*own, *parameters]
        function.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
        function.__annotations__ = {item.name: item.annotation for item in shown}
        return function

    return decorate


def _stages(settings: type[Any]) -> Iterator[tuple[str, type[Any]]]:
    """Yield the fields of the settings that are dataclasses themselves.

    Settings that packages can add stages to list them all themselves.
    """
    stage_kinds: Callable[[], dict[str, Any]] | None = getattr(settings, "stage_kinds", None)
    kinds = stage_kinds() if stage_kinds else get_type_hints(settings)
    for name, kind in kinds.items():
        if isinstance(kind, type) and is_dataclass(kind):
            yield name, kind


def _fields(settings: type[Any], prefix: str, panel: str | None) -> Iterator[_Option]:
    """Yield the fields of a dataclass that have a help text."""
    hints = get_type_hints(settings)
    for item in fields(settings):
        if "help" in item.metadata:
            yield _Option(prefix + item.name, item, hints[item.name], panel)


def _default_parameter(option: _Option) -> inspect.Parameter:
    """Make a parameter that has the default of its field."""
    default = list(option.default) if get_origin(option.kind) is tuple else option.default
    info = typer.Option(default, *_flags(option), **_shown(option))
    return _parameter(option, info, _plain_type(option.kind))


def _unset_parameter(option: _Option) -> inspect.Parameter:
    """Make a parameter that is None unless it was given; the help shows the field's default."""
    shown = _shown(option)
    if option.default not in (None, False):  # in the words and the style of typer's own
        shown["help"] += rf" [dim]\[default: {option.default}][/dim]"
    info = typer.Option(None, *_flags(option), **shown)
    return _parameter(option, info, _plain_type(option.kind) | None)


def _parameter(option: _Option, info: Any, annotation: Any) -> inspect.Parameter:
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(option.parameter, keyword_only, default=info, annotation=annotation)


def _flags(option: _Option) -> list[str]:
    if option.kind is bool:
        return [f"{option.flag}/--no-{option.flag.removeprefix('--')}"]
    return [option.flag]


def _shown(option: _Option) -> dict[str, Any]:
    legal: Range = option.item.metadata.get("range", Range())
    shown: dict[str, Any] = {"help": _help_with_range(option.item.metadata["help"], legal.words())}
    if get_origin(option.kind) is not tuple:
        shown["callback"] = _check_of(option.kind, legal)
    return {**shown, "rich_help_panel": option.panel}


def _help_with_range(help: str, words: str) -> str:
    return rf"{help} [dim]\[{words}][/dim]" if words else help


def _plain_type(kind: Any) -> Any:
    """Return the type that typer parses; the settings check words, as their errors say more."""
    if get_origin(kind) is UnionType:
        kind = next(member for member in get_args(kind) if member is not NoneType)
    if get_origin(kind) is Literal:
        return type(get_args(kind)[0])
    return list[get_args(kind)[0]] if get_origin(kind) is tuple else kind  # type: ignore[misc]


def _as_kind(value: Any, kind: Any) -> Any:
    return tuple(value or ()) if get_origin(kind) is tuple else value
