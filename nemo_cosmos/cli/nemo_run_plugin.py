"""The recipes inside NeMo-Run's own command line: ``nemo cosmos finetune --factory NAME ...``.

NeMo-Run loads this module with every ``nemo`` call, so it imports no more than NeMo-Run; a recipe
is imported when it is asked for. It reads annotations as they are: this module must not postpone
their evaluation (``from __future__ import annotations``).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nemo_run as run

from nemo_cosmos.training.quiet import quiet_libraries
from recipes.registry import RECIPES, get_recipe

quiet_libraries()


@run.cli.entrypoint(namespace="cosmos")
def pretrain(
    model: Any, data: Any, trainer: Any, log: Any = None, resume: Any = None, optim: Any = None
) -> Path:
    """Train a world model or tokenizer from scratch, and export it."""
    from nemo_cosmos import api

    return api.pretrain(model, data, trainer, log, resume, optim)


@run.cli.entrypoint(namespace="cosmos")
def finetune(
    model: Any, data: Any, trainer: Any, log: Any = None, resume: Any = None, optim: Any = None
) -> Path:
    """Post-train a world model or tokenizer from given weights, and export it."""
    from nemo_cosmos import api

    return api.finetune(model, data, trainer, log, resume, optim)


def _factory(name: str, target: Callable[..., Path], post_training: bool) -> None:
    """Register one recipe for one command."""

    def recipe() -> run.Partial:
        configured = get_recipe(name, post_training)
        return run.Partial(target, **configured.__arguments__)

    recipe.__name__ = recipe.__qualname__ = name
    recipe.__doc__ = RECIPES[name].help
    run.cli.factory(target=target, name=name)(recipe)


for _name, _entry in RECIPES.items():
    if _entry.pretrains:
        _factory(_name, pretrain, post_training=False)
    _factory(_name, finetune, post_training=True)
