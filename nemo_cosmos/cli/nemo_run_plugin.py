"""The recipes inside NeMo-Run's own command line: ``nemo cosmos finetune --factory NAME ...``.

NeMo-Run loads this module with every ``nemo`` call, so it imports no more than NeMo-Run; a recipe
is imported when it is asked for. It reads annotations as they are: this module must not postpone
their evaluation (``from __future__ import annotations``).

``run.executor=slurm``, or another queue of ``conf/cluster``, launches a recipe as ``nemo-cosmos
pretrain ... --on slurm`` does, with the same script.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import nemo_run as run

from nemo_cosmos.platform.patches.deferred import import_at_once
from recipes.registry import RECIPES, get_recipe

import_at_once("nemo.collections.llm")  # NeMo-Run imports it for the recipes it registers


_EXECUTOR, _EXECUTOR_KEY = "run.executor=", re.compile(r"run\.executor\.")


def _is_queue(name: str) -> bool:
    """Whether a cluster's file names a queue; other names are those of NeMo-Run's factories."""
    from nemo_cosmos.launch.select import runs_here
    from nemo_cosmos.site import compose_site, groups

    if name not in groups()["cluster"]:
        return False
    return not runs_here(compose_site([f"cluster={name}"])["cluster"])


class RecipeContext(run.cli.RunContext):
    """Reads ``key=value`` words as ``nemo-cosmos`` does.

    NeMo-Run's own parser cannot read postponed annotations, which most of the configured classes
    have, and its errors name no valid keys.
    """

    def cli_execute(
        self, fn: Any, args: list[str], entrypoint_type: Literal["task", "experiment"] = "task"
    ) -> None:
        """Run a recipe; on a cluster of ours, through our launcher."""
        name = next((word.partition("=")[2] for word in args if word.startswith(_EXECUTOR)), None)
        if name is None or self.factory not in RECIPES or not _is_queue(name):
            super().cli_execute(fn, args, entrypoint_type)
            return
        from nemo_cosmos.cli.kit.launching import Where
        from nemo_cosmos.cli.training.train import run_training

        words = [word for word in args if not word.startswith("run.")]
        more = [word.removeprefix("run.executor.") for word in args if _EXECUTOR_KEY.match(word)]
        run_training(
            self.factory,
            words,
            [f"cluster={name}", *(f"cluster.{word}" for word in more)],
            post_training=fn is finetune,
            where=Where(name, dryrun=self.dryrun),
        )

    def parse_fn(self, fn: Any, args: list[str], **default_kwargs: object) -> object:
        """The recipe that ``--factory`` names, with the words applied."""
        if self.factory not in RECIPES:
            return super().parse_fn(fn, args, **default_kwargs)
        from recipes.overrides import apply_overrides
        from recipes.registry import plain_recipe
        from recipes.weights import take_from_weights

        recipe = apply_overrides(configure(self.factory, fn), args)
        if fn is finetune:
            take_from_weights(recipe, plain_recipe(recipe, self.factory), args)
        return recipe


@run.cli.entrypoint(namespace="cosmos", run_ctx_cls=RecipeContext)  # type: ignore[untyped-decorator]
def pretrain(
    model: Any, data: Any, trainer: Any, log: Any = None, resume: Any = None, optim: Any = None
) -> Path:
    """Train a world model or tokenizer from scratch, and export it."""
    from nemo_cosmos import api

    return api.pretrain(model, data, trainer, log, resume, optim)


@run.cli.entrypoint(namespace="cosmos", run_ctx_cls=RecipeContext)  # type: ignore[untyped-decorator]
def finetune(
    model: Any, data: Any, trainer: Any, log: Any = None, resume: Any = None, optim: Any = None
) -> Path:
    """Post-train a world model or tokenizer from given weights, and export it."""
    from nemo_cosmos import api

    return api.finetune(model, data, trainer, log, resume, optim)


def configure(name: str, target: Callable[..., Path]) -> run.Partial:
    """Return a recipe as a configuration of one of this module's commands."""
    from nemo_cosmos.platform.quiet import quiet_nemo

    quiet_nemo()
    recipe = get_recipe(name, post_training=target.__name__ == finetune.__name__)
    return run.Partial(target, **recipe.__arguments__)


def _register(name: str, target: Callable[..., Path]) -> None:
    """Let ``--factory NAME`` and NeMo-Run's help know the recipe."""

    def recipe() -> run.Partial:
        return configure(name, target)

    recipe.__name__ = recipe.__qualname__ = name
    recipe.__doc__ = RECIPES[name].help
    run.cli.factory(target=target, name=name)(recipe)


for _name, _entry in RECIPES.items():
    if _entry.pretrains:
        _register(_name, pretrain)
    _register(_name, finetune)
