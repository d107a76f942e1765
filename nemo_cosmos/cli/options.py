"""Options that several commands share, and options made from the fields of a dataclass.

An option has one name and one form in every command. An option that takes several names may be
repeated, and takes names with commas between them: ``--skip motion,embed`` is ``--skip motion
--skip embed``; :func:`listed` reads both.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
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

from nemo_cosmos.errors import WrongSizeError

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
Work = Annotated[
    Path | None,
    typer.Option(help="Folder that a run for a bucket works in; by default in the cache."),
]


def listed(words: Iterable[str] | None) -> tuple[str, ...]:
    """The names of a repeatable option, each of which may hold several with commas between."""
    parts = (part.strip() for word in words or () for part in word.split(","))
    return tuple(part for part in parts if part)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width in pixels of ``96x128``.

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


Command = TypeVar("Command", bound=Callable[..., Any])
Settings = TypeVar("Settings")


class _Option(NamedTuple):
    """One field of one stage's settings."""

    stage: str
    field: Field[Any]
    kind: Any

    @property
    def parameter(self) -> str:
        """Its name among the arguments of the command."""
        return f"{self.stage}_{self.field.name}"

    @property
    def default(self) -> Any:
        factory = self.field.default_factory
        return self.field.default if factory is MISSING else factory()


def with_settings(
    settings: type[Any], stages: Collection[str] | None = None
) -> Callable[[Command], Command]:
    """Give a command one option for each :func:`~data_curation.stages.base.setting` of the stages.

    Args:
        settings: a dataclass with a field for each stage, whose type is a dataclass.
        stages: names of the stages that the command has; by default all.

    Returns:
        A decorator for a function that takes ``**options``, which it passes on to
        :func:`settings_from`.
    """

    def decorate(function: Command) -> Command:
        signature = inspect.signature(function, eval_str=True)
        own = [item for item in signature.parameters.values() if item.kind is not item.VAR_KEYWORD]
        chosen = [item for item in _options(settings) if stages is None or item.stage in stages]
        parameters = [*own, *(_parameter(option) for option in chosen)]
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        function.__annotations__ = {item.name: item.annotation for item in parameters}
        return function

    return decorate


def settings_from(settings: type[Settings], values: Mapping[str, Any], **run: Any) -> Settings:
    """Build the settings from the values that the command was given.

    Args:
        settings: as for :func:`with_settings`.
        values: by parameter; a stage without any keeps its defaults.
        run: the other fields of the settings.

    Raises:
        ConfigError: a value is impossible.
    """
    given: dict[str, dict[str, Any]] = {}
    for option in _options(settings):
        if option.parameter in values:
            value = values[option.parameter]
            value = tuple(value or ()) if get_origin(option.kind) is tuple else value
            given.setdefault(option.stage, {})[option.field.name] = value
    hints = get_type_hints(settings)
    return settings(**{stage: hints[stage](**chosen) for stage, chosen in given.items()}, **run)


def _options(settings: type[Any]) -> Iterator[_Option]:
    for stage, kind in get_type_hints(settings).items():
        if isinstance(kind, type) and is_dataclass(kind):
            hints = get_type_hints(kind)
            for item in fields(kind):
                if "help" in item.metadata:
                    yield _Option(stage, item, hints[item.name])


def _parameter(option: _Option) -> inspect.Parameter:
    flag = option.field.metadata["flag"] or f"--{option.stage}-{option.field.name}".replace(
        "_", "-"
    )
    if option.kind is bool:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    info = typer.Option(
        option.default if get_origin(option.kind) is not tuple else list(option.default),
        flag,
        help=option.field.metadata["help"],
        rich_help_panel=f"Stage '{option.stage}'",
    )
    return inspect.Parameter(
        option.parameter,
        inspect.Parameter.KEYWORD_ONLY,
        default=info,
        annotation=_plain_type(option.kind),
    )


def _plain_type(kind: Any) -> Any:
    """What typer parses: words are checked by the settings, whose errors say more."""
    if get_origin(kind) is Literal:
        return type(get_args(kind)[0])
    return list[get_args(kind)[0]] if get_origin(kind) is tuple else kind  # type: ignore[misc]
