"""``nemo-cosmos pretrain``."""

from __future__ import annotations

from typing import Annotated

import typer

Factory = Annotated[
    str | None, typer.Option("--factory", "-f", help="Name of a recipe; --list shows them.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Values of the recipe's keys."),
]
Conf = Annotated[
    list[str] | None,
    typer.Option("--conf", help="A setting of the site, GROUP=OPTION; may be given often."),
]
Dryrun = Annotated[
    bool, typer.Option("--dryrun", help="Print the resolved configuration and stop.")
]
ListRecipes = Annotated[bool, typer.Option("--list", help="List the recipes and stop.")]


def command(
    overrides: Overrides = None,
    factory: Factory = None,
    conf: Conf = None,
    dryrun: Dryrun = False,
    list_recipes: ListRecipes = False,
) -> None:
    """Train a model from scratch with a recipe, and export it.

    Run the same command again after a stop or a crash: it goes on from the newest checkpoint. The
    model is written to <outputs>/<name>/export, the curves to metrics.jsonl beside it.

    [bold]Examples[/bold]

      nemo-cosmos pretrain --factory tokenizer_nano_cv4x8x8 data.path=shards

      nemo-cosmos pretrain --factory diffusion_nano_text2world data.path=latents

      nemo-cosmos pretrain --factory diffusion_7b_text2world --conf parallel=tp8_cp2 --dryrun
    """
    if list_recipes:
        print_recipes(post_training=False)
        return
    from nemo_cosmos.cli.training import run_training

    run_training(factory, overrides or [], conf or [], post_training=False, dryrun=dryrun)


def print_recipes(post_training: bool) -> None:
    """Names and one line for each recipe that the command takes."""
    from recipes.registry import RECIPES

    for name, entry in RECIPES.items():
        if post_training or entry.pretrains:
            typer.echo(f"{name:32} {entry.help}")
