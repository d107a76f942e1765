"""Configurations that know the fields of what they configure, and recipes with NeMo's arguments.

NeMo-Run accepts any field where a class passes ``**kwargs`` on, as trainers and strategies do:
``recipe.trainer.max_step = 5`` would be forgotten until NeMo builds the trainer. Here a field that
no parameter has is an error at once.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable
from typing import Any, Protocol

import fiddle as fdl
import nemo_run as run
import yaml
from fiddle._src.casting import register_supported_cast
from nemo_run.core.serialization import yaml as serialization

from nemo_cosmos.errors import ConfigError, nearest_names


class Config(run.Config):
    """A ``run.Config`` that refuses unknown fields.

    Raises:
        ConfigError: a field is unknown; names the nearest.
    """

    def __init__(self, target: Callable[..., object], *args: object, **fields: object) -> None:
        _check_fields(target, fields)
        super().__init__(target, *args, **fields)

    def __setattr__(self, name: str, value: object) -> None:
        _check_fields(fdl.get_callable(self), (name,))
        super().__setattr__(name, value)


class Partial(run.Partial):
    """A ``run.Partial`` that refuses unknown fields.

    Raises:
        ConfigError: a field is unknown; names the nearest.
    """

    def __init__(self, target: Callable[..., object], *args: object, **fields: object) -> None:
        _check_fields(target, fields)
        super().__init__(target, *args, **fields)

    def __setattr__(self, name: str, value: object) -> None:
        _check_fields(fdl.get_callable(self), (name,))
        super().__setattr__(name, value)


# NeMo-Run prints a configuration as YAML, and casts it, by its exact class.
yaml.SafeDumper.add_representer(Config, serialization._config_representer)
yaml.SafeDumper.add_representer(Partial, serialization._partial_representer)
for _kind in (Config, Partial):
    register_supported_cast(_kind, _kind)


class Recipe(Protocol):
    """A function that returns a whole training configuration, as NeMo's recipes do."""

    def __call__(
        self,
        dir: str | None = None,
        name: str | None = None,
        num_nodes: int | None = None,
        num_gpus_per_node: int | None = None,
        peft_scheme: str | None = None,
        *,
        post_training: bool = False,
    ) -> run.Partial:
        """Configure a run.

        Args:
            dir: folder of all runs, instead of ``outputs``; this one writes to ``<dir>/<name>``.
            name: the run's name, instead of the recipe's.
            num_nodes: machines, instead of the recipe's number.
            num_gpus_per_node: ranks on each machine, instead of the recipe's number.
            peft_scheme: ``"lora"`` trains adapters and controls; None, or ``"none"``, all weights.
            post_training: whether it is for ``finetune`` instead of ``pretrain``.

        Raises:
            ConfigError: an unknown ``peft_scheme``, or one for pre-training; or pre-training of a
                recipe that cannot.
        """


def as_recipe(configure: Callable[[bool], run.Partial]) -> Recipe:
    """Give a recipe the arguments of ``nemo.collections.llm.recipes``.

    Args:
        configure: configures the recipe; its argument is ``post_training``.
    """

    @functools.wraps(configure)
    def configured(
        dir: str | None = None,
        name: str | None = None,
        num_nodes: int | None = None,
        num_gpus_per_node: int | None = None,
        peft_scheme: str | None = None,
        *,
        post_training: bool = False,
    ) -> run.Partial:
        made = configure(post_training)
        if peft_scheme is not None:
            from recipes.peft import use_peft  # which builds on this module

            use_peft(made, peft_scheme)
        for node, field, value in (
            (made.log, "log_dir", dir),
            (made.log, "name", name),
            (made.trainer, "num_nodes", num_nodes),
            (made.trainer, "devices", num_gpus_per_node),
        ):
            if value is not None:
                setattr(node, field, value)
        return made

    # functools.wraps would show the signature of what is wrapped.
    configured.__signature__ = inspect.signature(configured, follow_wrapped=False)  # type: ignore[attr-defined]
    return configured


def parameters(target: Any) -> dict[str, Any]:
    """Names and type hints of what a callable takes.

    Where a class passes ``**kwargs`` on, the parameters of its base classes count too.
    """
    callables = [target]
    if inspect.isclass(target):
        callables = [
            vars(kind)["__init__"] for kind in inspect.getmro(target) if "__init__" in vars(kind)
        ]
    found: dict[str, Any] = {}
    for function in callables:
        signature = inspect.signature(function)
        for name, parameter in signature.parameters.items():
            if name != "self" and parameter.kind not in (
                parameter.VAR_KEYWORD,
                parameter.VAR_POSITIONAL,
            ):
                found.setdefault(name, _resolve(parameter.annotation, function))
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            break
    return found


def _check_fields(target: Any, names: typing.Iterable[str]) -> None:
    """Require that a callable takes parameters of these names."""
    known = parameters(target)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{target.__name__} has no field '{name}'. The nearest are "
                f"{nearest_names(name, known)}."
            )


def _resolve(annotation: object, function: Any) -> object:
    """A type hint that is written as text, evaluated where the function is defined."""
    if not isinstance(annotation, str):
        return annotation
    function = inspect.unwrap(function)
    scope = vars(sys.modules[function.__module__]) | {"Any": Any}
    if function.__name__ == "__init__" and "." in function.__qualname__:
        # The __init__ of a dataclass is generated: its hints are those of the class's module.
        scope = scope | vars(typing)
    try:
        return eval(annotation, scope)  # noqa: S307 - source text of an installed module
    except (NameError, AttributeError, TypeError, SyntaxError):
        return Any
