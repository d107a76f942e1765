"""``nemo-cosmos pretrain`` and ``finetune``: a recipe, configured and run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemo_cosmos.checklist import require
from nemo_cosmos.cli.kit.checking import CheckOnly, look_first
from nemo_cosmos.cli.kit.launching import (
    Devices,
    Nodes,
    On,
    Sweep,
    Then,
    Where,
    is_following,
    launch,
)
from nemo_cosmos.cli.kit.options import AllowMismatch, Conf, Overrides, listed

if TYPE_CHECKING:
    import nemo_run as run


Factory = Annotated[
    str | None, typer.Option("--factory", "-f", help="Name of a recipe; --list shows them.")
]
Dryrun = Annotated[
    bool,
    typer.Option(
        "--dryrun",
        help="Print the resolved configuration, or with --on the script; if it is legal.",
    ),
]
ListRecipes = Annotated[bool, typer.Option("--list", help="List the recipes and stop.")]
Weights = Annotated[
    str | None,
    typer.Option(
        "--from", help="Weights to start from; short for resume.restore_config.path=PATH."
    ),
]


def pretrain(
    overrides: Overrides = None,
    factory: Factory = None,
    conf: Conf = None,
    allow_mismatch: AllowMismatch = None,
    on: On = None,
    nodes: Nodes = None,
    devices: Devices = None,
    sweep: Sweep = None,
    then: Then = None,
    dryrun: Dryrun = False,
    check: CheckOnly = False,
    list_recipes: ListRecipes = False,
) -> None:
    """Train a model from scratch with a recipe, and export it.

    Run the same command again after a stop or a crash: it resumes from the newest checkpoint. The
    model is written to <outputs>/<name>/export, the curves to metrics.jsonl beside it.

    Examples:
        nemo-cosmos pretrain --factory tokenizer_nano_cv4x8x8 data.path=shards
        nemo-cosmos pretrain --factory diffusion_nano_text2world data.path=latents
        nemo-cosmos pretrain --factory diffusion_7b_text2world --conf parallel=tp8_cp2 --dryrun
        nemo-cosmos pretrain --factory diffusion_7b_text2world data.path=latents --on slurm --nodes 32 --dryrun
    """  # noqa: E501 - a command stays on one line
    if list_recipes:
        print_recipes(post_training=False)
        return
    words = [*allowed_words(allow_mismatch), *(overrides or ())]
    where = Where(on, nodes, devices, sweep or (), then or (), dryrun)
    run_training(factory, words, conf or [], post_training=False, where=where, only_check=check)


def finetune(
    overrides: Overrides = None,
    factory: Factory = None,
    weights: Weights = None,
    conf: Conf = None,
    allow_mismatch: AllowMismatch = None,
    on: On = None,
    nodes: Nodes = None,
    devices: Devices = None,
    sweep: Sweep = None,
    then: Then = None,
    dryrun: Dryrun = False,
    check: CheckOnly = False,
    list_recipes: ListRecipes = False,
) -> None:
    """Post-train a model: adapt given weights to your data, or add a control.

    Weights are an exported folder (<run>/export), a run's folder, or a NeMo checkpoint. Run the
    same command again after a stop or a crash: it resumes from its own newest checkpoint.

    Examples:
        nemo-cosmos finetune --factory diffusion_nano_action --from outputs/world/export data.path=latents
        nemo-cosmos finetune --factory diffusion_7b_video2world --from worlds/7b data.path=latents trainer.max_steps=100 optim.config.lr=1e-6
        nemo-cosmos finetune --factory diffusion_7b_video2world --dryrun trainer.max_steps=3
        nemo-cosmos finetune --factory diffusion_7b_video2world --from worlds/7b data.path=latents --on dgx_h100 --sweep optim.config.lr=1e-6,1e-5
    """  # noqa: E501 - a command stays on one line
    if list_recipes:
        print_recipes(post_training=True)
        return
    words = [f"resume.restore_config.path={weights}"] if weights else []
    words += [*allowed_words(allow_mismatch), *(overrides or ())]
    where = Where(on, nodes, devices, sweep or (), then or (), dryrun)
    run_training(factory, words, conf or [], post_training=True, where=where, only_check=check)


def allowed_words(names: list[str] | None) -> list[str]:
    """Return ``--allow-mismatch`` as words for a recipe.

    Raises:
        ConfigError: a name is no kind of difference.
    """
    from nemo_cosmos.provenance.belonging import check_kinds

    allowed = listed(names)
    check_kinds(allowed)
    return [f"resume.allow_mismatch=[{','.join(allowed)}]"] if allowed else []


def print_recipes(post_training: bool) -> None:
    """Print one line for each recipe that the command takes."""
    from recipes.registry import RECIPES

    for name, entry in RECIPES.items():
        if post_training or entry.pretrains:
            typer.echo(f"{name:32} {entry.help}")


def run_training(
    factory: str | None,
    overrides: Sequence[str],
    conf: Sequence[str],
    *,
    post_training: bool,
    where: Where,
    only_check: bool = False,
) -> None:
    """Configure a recipe and run it, launch it, print it or check it.

    Args:
        factory: the recipe's name; the site's where None.
        overrides: ``key=value`` words for the recipe.
        conf: ``group=option`` words for the site.
        post_training: ``finetune`` instead of ``pretrain``.
        where: where it runs, how often, and what follows.
        only_check: go through the checklist instead of training.

    Raises:
        ConfigError: an unknown recipe, key, option or value, no data named, or a machine that
            lacks what the recipe needs.
        MissingFileError: post-training without weights to start from.
    """
    from nemo_cosmos.platform.accelerator.findings import check_python

    check_python()  # before the first import of what may be missing
    from nemo_cosmos.launch import Job, configure_recipe, sweep_variants
    from nemo_cosmos.launch.checks import training_checks, value_checks
    from nemo_cosmos.launch.select import runs_here
    from nemo_cosmos.platform import is_first_process
    from nemo_cosmos.site import compose_site, kept_choices, site_file
    from recipes.overrides import apply_overrides

    conf, words = [*conf, *where.conf], [*overrides, *where.size]
    site = compose_site(conf)
    name = factory or site["recipe"]
    recipe = configure_recipe(name, words, site, post_training)
    if where.dryrun and not where.is_elsewhere:
        require(value_checks(recipe))
        from nemo_run.core.serialization.yaml import YamlSerializer

        _show_origins([*conf, *words])
        _show_environment(recipe, site["cluster"])
        typer.echo(YamlSerializer().serialize(recipe), nl=False)
        return
    if (kept := kept_choices()) and is_first_process():
        typer.echo(f"Kept in {site_file()}: {shlex.join(kept)}", err=True)
    # On a cluster, folders are looked at where the job runs; a script may go anywhere, and what
    # follows may read what is not written yet.
    here = runs_here(site["cluster"]) and not where.dryrun and not is_following()
    variants = sweep_variants(where.sweep, recipe.log.name)
    # A run of a sweep that cannot work is found here, not in the queue.
    changed = [apply_overrides(deepcopy(recipe), variant) for variant in variants] or [recipe]
    checks = (training_checks(one, post_training, here=here) for one in changed)
    look_first([check for of_one in checks for check in of_one], only_check)
    command = ["finetune" if post_training else "pretrain", "--factory", name]
    job = Job.for_recipe(recipe, [*command, *_conf_words(conf), *words])
    done = launch(replace(job, variants=variants), site["cluster"], where)
    folder = done[0].folder if done else None
    if folder is not None and is_first_process():
        typer.echo(f"Done: the model is in '{folder / 'export'}'.")


def _conf_words(conf: Sequence[str]) -> list[str]:
    """Return the site's words for a process that a launcher starts: it runs where it is."""
    from nemo_cosmos.site import is_of_cluster

    words = [*(word for word in conf if not is_of_cluster(word)), "cluster=local"]
    return [part for word in words for part in ("--conf", word)]


def _show_environment(recipe: run.Partial, cluster: Mapping[str, Any]) -> None:
    """Print as YAML comments what the job's processes see in their environment, and why."""
    from nemo_cosmos.launch import Job
    from nemo_cosmos.launch.environment import describe_job_environment

    for line in describe_job_environment(Job.for_recipe(recipe), cluster.get("env_vars") or {}):
        typer.echo(f"# {line}")


def _show_origins(words: Sequence[str]) -> None:
    """Print as YAML comments which words were kept and which come from this command."""
    from nemo_cosmos.site import kept_choices, site_file

    typer.echo(f"# from {site_file()}: {shlex.join(kept_choices()) or '(nothing)'}")
    typer.echo(f"# from this command: {shlex.join(words) or '(nothing)'}")
