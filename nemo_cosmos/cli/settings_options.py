"""Options of a command from the fields of its settings, so that each is written down once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import typer

from data_curation.stages.base import StageSettings

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
        settings: a dataclass with a field of :class:`StageSettings` for each stage.
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
        if isinstance(kind, type) and issubclass(kind, StageSettings):
            hints = get_type_hints(kind)
            for item in fields(kind):  # type: ignore[arg-type]  # subclasses are dataclasses
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
