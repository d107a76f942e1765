"""``nemo-cosmos finetune``."""

from __future__ import annotations

from typing import Annotated

import typer

from nemo_cosmos.cli.pretrain import (
    Conf,
    Dryrun,
    Factory,
    ListRecipes,
    Overrides,
    print_recipes,
)

Weights = Annotated[
    str | None,
    typer.Option(
        "--from", help="Weights to start from; the same as resume.restore_config.path=PATH."
    ),
]


def command(
    overrides: Overrides = None,
    factory: Factory = None,
    weights: Weights = None,
    conf: Conf = None,
    dryrun: Dryrun = False,
    list_recipes: ListRecipes = False,
) -> None:
    """Post-train a model: adapt given weights to your data, or add a control.

    Weights are an exported folder (<run>/export) or a NeMo checkpoint. Run the same command again
    after a stop or a crash: it goes on from its own newest checkpoint.

    [bold]Examples[/bold]

      nemo-cosmos finetune --factory diffusion_nano_action --from outputs/world/export data.path=latents

      nemo-cosmos finetune --factory diffusion_7b_video2world data.path=latents trainer.max_steps=100 optim.config.lr=1e-6

      nemo-cosmos finetune --factory diffusion_7b_video2world --dryrun trainer.max_steps=3
    """  # noqa: E501 - a command stands on one line
    if list_recipes:
        print_recipes(post_training=True)
        return
    from nemo_cosmos.cli.training import run_training

    words = [f"resume.restore_config.path={weights}"] if weights else []
    words += overrides or []
    run_training(factory, words, conf or [], post_training=True, dryrun=dryrun)
