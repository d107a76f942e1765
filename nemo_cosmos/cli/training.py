"""What ``pretrain`` and ``finetune`` share: recipe, site, overrides, dry run, start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nemo_cosmos.errors import ConfigError

if TYPE_CHECKING:
    import nemo_run as run


def run_training(
    factory: str | None,
    overrides: Sequence[str],
    conf: Sequence[str],
    *,
    post_training: bool,
    dryrun: bool,
) -> None:
    """Configure a recipe and run it, or print it.

    Args:
        factory: the recipe's name; the site's where None.
        overrides: ``key=value`` words for the recipe.
        conf: ``group=option`` words for the site.
        post_training: ``finetune`` instead of ``pretrain``.
        dryrun: print the resolved configuration instead of training.

    Raises:
        ConfigError: an unknown recipe, key, option or value, or no data named.
    """
    from nemo_cosmos.site import compose_site

    site = compose_site(conf)
    recipe = configure_recipe(factory or site["recipe"], overrides, site, post_training)
    if dryrun:
        from nemo_run.core.serialization.yaml import YamlSerializer

        typer.echo(YamlSerializer().serialize(recipe), nl=False)
        return
    if not recipe.data.path:
        raise ConfigError(
            "No training data is named. Give data.path=FOLDER: for a diffusion model a folder that "
            "'nemo-cosmos tokenize' wrote, for a tokenizer one that 'nemo-cosmos curate' wrote."
        )
    start(recipe, site["cluster"])


def configure_recipe(
    name: str, overrides: Sequence[str], site: dict[str, Any], post_training: bool
) -> run.Partial:
    """A recipe with the site's and the user's values; the user has the last word."""
    from nemo_cosmos.platform.quiet import quiet_nemo
    from nemo_cosmos.site import recipe_overrides
    from recipes.registry import get_recipe, require_recipe

    require_recipe(name, post_training)  # before the seconds that NeMo takes to import
    quiet_nemo()
    from recipes.overrides import apply_overrides

    recipe = get_recipe(name, post_training)
    return apply_overrides(recipe, [*recipe_overrides(site), *overrides])


def start(recipe: run.Partial, cluster: dict[str, Any]) -> None:
    """Run a configured recipe where the site says.

    One process trains here. Several devices, or a Slurm cluster, are started by NeMo-Run, unless
    this process has been started by a launcher already.
    """
    import fiddle as fdl

    from nemo_cosmos.platform import is_first_process

    is_launched = "LOCAL_RANK" in os.environ or "SLURM_PROCID" in os.environ
    num_processes = recipe.trainer.devices * recipe.trainer.num_nodes
    if cluster["executor"] == "local" and (is_launched or num_processes == 1):
        folder: Path = fdl.build(recipe)()
        if is_first_process():
            typer.echo(f"Done: the model is in '{folder / 'export'}'.")
        return
    from nemo_cosmos.cli.launch import launch

    launch(recipe, cluster)
