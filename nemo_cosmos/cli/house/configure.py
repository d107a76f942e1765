"""``nemo-cosmos configure``."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[GROUP=OPTION|KEY=VALUE]...", help="Settings to keep."),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget the kept settings first.")] = False,
    assets: Annotated[
        bool, typer.Option("--assets", help="Fetch the files that models and metrics need.")
    ] = False,
) -> None:
    """Show the site's settings (where things run and live), or keep new ones.

    Settings are Hydra groups (cluster, data, logger, storage, guardrails, parallel) and their keys.
    They apply to every later command; --conf overrides them for one.

    Examples:
        nemo-cosmos configure
        nemo-cosmos configure logger=wandb storage.outputs=/data/runs
        nemo-cosmos configure cluster=slurm cluster.account=robotics
        nemo-cosmos configure --assets
    """
    from nemo_cosmos.site import compose_site, groups, keep_choices, site_file

    if reset:
        site_file().unlink(missing_ok=True)
    if words:
        keep_choices(words)
    if assets:
        from nemo_cosmos.assets import fetch_all

        for name, path in fetch_all():
            typer.echo(f"{name}: {path}")
    _show(compose_site(), groups())
    typer.echo(f"\nKept in {site_file()}")


def _show(site: dict[str, object], groups: dict[str, list[str]]) -> None:
    import yaml

    typer.echo(yaml.safe_dump(site, sort_keys=False), nl=False)
    typer.echo("\nGroups and their options:")
    for group, options in groups.items():
        typer.echo(f"  {group}: {', '.join(options)}")
