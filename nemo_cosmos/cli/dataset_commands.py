"""The commands of ``nemo-cosmos dataset``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemo_cosmos.errors import ConfigError

if TYPE_CHECKING:
    from data_curation.catalogue import Catalogue

CatalogueOption = Annotated[
    str | None,
    typer.Option("--catalogue", help="File or mongodb:// URL; the site's by default."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]
Version = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The newest by default.")]
Words = Annotated[str | None, typer.Option(help="Words that the caption must hold, all of them.")]
Conditions = Annotated[
    list[str] | None,
    typer.Option("--where", help="Such as 'width>=1280' or 'scores.motion<0.1'; repeat for more."),
]

_CONDITION = re.compile(r"\s*([\w.]+)\s*(>=|<=|!=|=|<|>)\s*(.+?)\s*")
_OPERATORS = {"=": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}


def list_versions(catalogue: CatalogueOption = None, as_json: Json = False) -> None:
    """List every version of every data set.

    [bold]Examples[/bold]

      nemo-cosmos dataset list

      nemo-cosmos dataset list --catalogue mongodb://db/curation --json
    """
    with open_site_catalogue(catalogue) as opened:
        versions = opened.datasets()
    if as_json:
        _print_lines(versions)
        return
    _print_table(
        ["version", "clips", "hours", "created", "shards"],
        [
            [
                f"{each['name']}@{each['version']}",
                f"{each['num_clips']:,}",
                f"{each['duration_s'] / 3600:.2f}",
                each["created"],
                f"deleted {each['deleted']}" if each["deleted"] else each["output"],
            ]
            for each in versions
        ],
        "There is no data set yet; 'nemo-cosmos curate' adds one.",
    )


def show(
    version: Version,
    clip: Annotated[str | None, typer.Option(help="Key of a clip: where it came from.")] = None,
    catalogue: CatalogueOption = None,
    as_json: Json = False,
) -> None:
    """Show a version with the settings that made it, or follow one clip back to its source.

    [bold]Examples[/bold]

      nemo-cosmos dataset show robot@2

      nemo-cosmos dataset show robot --clip 0b1c6c1e-5b1e-5a3c-8f0e-3f5f0f6a1b2c
    """
    with open_site_catalogue(catalogue) as opened:
        found = opened.dataset(version)
        history = opened.lineage(clip) if clip else None
    if as_json:
        _print_lines([found] if history is None else history)
        return
    from nemo_cosmos.cli.dataset_words import describe_clip, describe_version

    lines = [describe_version(found)] if history is None else map(describe_clip, history)
    typer.echo("\n\n".join(lines))


def diff(
    first: Version, second: Version, catalogue: CatalogueOption = None, as_json: Json = False
) -> None:
    """Compare two versions: clips that came, went or changed, and settings that differ.

    [bold]Examples[/bold]

      nemo-cosmos dataset diff robot@1 robot@2
    """
    from dataclasses import asdict

    with open_site_catalogue(catalogue) as opened:
        difference = opened.diff(opened.dataset(first), opened.dataset(second))
    if as_json:
        typer.echo(json.dumps(asdict(difference)))
        return
    for word, keys in (
        ("added", difference.added),
        ("removed", difference.removed),
        ("changed", difference.changed),
    ):
        typer.echo(f"{len(keys)} clips {word}")
        for key in keys[:10]:
            typer.echo(f"  {key}")
        if len(keys) > 10:
            typer.echo(f"  and {len(keys) - 10} more; --json lists all")
    for name, (before, after) in difference.settings.items():
        typer.echo(f"setting {name}: {json.dumps(before)} -> {json.dumps(after)}")


def query(
    version: Annotated[
        str | None, typer.Argument(metavar="[NAME[@VERSION]]", help="All versions by default.")
    ] = None,
    words: Words = None,
    where: Conditions = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Clips that look like this one, nearest first."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 50,
    catalogue: CatalogueOption = None,
    as_json: Json = False,
) -> None:
    """Search clips by the words of their caption, by size, length and scores, or by look.

    Fields: key, source, fps, num_frames, duration_s, width, height, scores.NAME, extra.NAME.

    [bold]Examples[/bold]

      nemo-cosmos dataset query --words "red block"

      nemo-cosmos dataset query robot@2 --where "duration_s>=5" --where "scores.motion>0.01" --json

      nemo-cosmos dataset query robot --like 0b1c6c1e-5b1e-5a3c-8f0e-3f5f0f6a1b2c --limit 5
    """
    with open_site_catalogue(catalogue) as opened:
        chosen = None if version is None else opened.dataset(version)
        conditions = parse_conditions(where or [])
        if like is None:
            clips = list(opened.clips(chosen, words=words, where=conditions, limit=limit))
        else:
            clips = _similar(opened, chosen, like, words, conditions)[:limit]
    if as_json:
        _print_lines(clips)
        return
    _print_table(
        ["key", *(["likeness"] if like else []), "size", "seconds", "caption"],
        [
            [
                clip["key"],
                *([f"{clip['similarity']:.3f}"] if like else []),
                f"{clip['width']}x{clip['height']}",
                f"{clip['duration_s']:.1f}",
                clip["caption"],
            ]
            for clip in clips
        ],
        "No clip meets the conditions.",
    )


def export(
    version: Version,
    destination: Annotated[Path, typer.Argument(help="A folder without shards.")],
    words: Words = None,
    where: Conditions = None,
    catalogue: CatalogueOption = None,
) -> None:
    """Copy a version, or the part of it that a search finds, into shards of its own.

    [bold]Examples[/bold]

      nemo-cosmos dataset export robot@2 shards/robot_v2

      nemo-cosmos dataset export robot shards/reach --words reaches --where "duration_s>=2"
    """
    from data_curation.catalogue import export_dataset

    with open_site_catalogue(catalogue) as opened:
        chosen = opened.dataset(version)
        conditions = parse_conditions(where or [])
        clips = list(opened.clips(chosen, words=words, where=conditions))
    with typer.progressbar(length=len(clips), label="Copying clips") as bar:
        num_clips = export_dataset(chosen, clips, destination, lambda: bar.update(1))
    typer.echo(f"{num_clips} clips in '{destination}'.")


def add(
    output: Annotated[Path, typer.Argument(help="What 'nemo-cosmos curate' wrote.")],
    name: Annotated[str | None, typer.Option(help="Of the data set; else the folder's.")] = None,
    source: Annotated[Path | None, typer.Option(help="The input folder of that run.")] = None,
    catalogue: CatalogueOption = None,
) -> None:
    """Add a curated folder to the catalogue, as the next version of a data set.

    [bold]Examples[/bold]

      nemo-cosmos dataset add outputs/robot --source raw/robot
    """
    with open_site_catalogue(catalogue) as opened:
        version = opened.add(output, name or output.absolute().name, source or "")
    typer.echo(f"{version['name']}@{version['version']}: {version['num_clips']} clips.")


def retain(
    raw_days: Annotated[int | None, typer.Option(min=0, help="Sources are kept so long.")] = None,
    processed_days: Annotated[
        int | None, typer.Option(min=0, help="Shards are kept so long.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Delete; without it, only list.")] = False,
    catalogue: CatalogueOption = None,
) -> None:
    """List sources and shards that are past their time, and delete them with --apply.

    Unless told otherwise, sources are kept for 90 days and shards for a year. Files are overwritten
    before they are unlinked. What the catalogue knows of them stays.

    [bold]Examples[/bold]

      nemo-cosmos dataset retain

      nemo-cosmos dataset retain --raw-days 30 --apply
    """
    from data_curation.catalogue import plan_removals, remove

    with open_site_catalogue(catalogue) as opened:
        given = {"raw_days": raw_days, "processed_days": processed_days}
        removals = plan_removals(
            opened, **{k: days for k, days in given.items() if days is not None}
        )
        for each in removals:
            left = f"; kept: {each.keep_because}" if each.keep_because else ""
            typer.echo(
                f"{each.kind}: {each.path} ({each.size_bytes / 1e6:.1f} MB, "
                f"{each.age_days} days{left})"
            )
        if not removals:
            typer.echo("Nothing is past its time.")
        elif apply:
            deleted_bytes = remove(opened, removals)
            typer.echo(f"Deleted {deleted_bytes / 1e6:.1f} MB.")
        else:
            typer.echo("Nothing was deleted; run again with --apply to delete.")


def _similar(
    opened: Catalogue,
    dataset: dict[str, Any] | None,
    key: str,
    words: str | None,
    conditions: dict[str, Any],
) -> list[dict[str, Any]]:
    """Clips of a version that look like one of them, and meet the conditions."""
    from data_curation.catalogue import similar_clips

    if dataset is None:
        raise ConfigError(
            "--like compares within one version; name it: nemo-cosmos dataset query NAME --like KEY"
        )
    allowed = {clip["_id"] for clip in opened.clips(dataset, words=words, where=conditions)}
    found = similar_clips(opened, dataset, key, limit=dataset["num_clips"])
    return [clip for clip in found if clip["_id"] in allowed]


def open_site_catalogue(location: str | None) -> Catalogue:
    """The catalogue that was named, else the site's."""
    from data_curation.catalogue import open_catalogue

    if location is None:
        from nemo_cosmos.site import compose_site

        location = str(compose_site()["storage"]["catalogue"])
    return open_catalogue(location)


def parse_conditions(texts: list[str]) -> dict[str, Any]:
    """``["width>=1280"]`` as ``{"width": {"$gte": 1280}}``.

    Raises:
        ConfigError: a text is not a field, a comparison and a value.
    """
    conditions: dict[str, Any] = {}
    for text in texts:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"'{text}' is no condition; expected a field, one of {', '.join(_OPERATORS)}, and "
                "a value, such as 'scores.motion>=0.01'."
            )
        field, operator, value = match.groups()
        conditions.setdefault(field, {})[_OPERATORS[operator]] = _value(value)
    return conditions


def _value(text: str) -> Any:
    """A number where it is one, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _print_lines(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        typer.echo(json.dumps(document, ensure_ascii=False))


def _print_table(header: list[str], rows: list[list[str]], empty: str) -> None:
    if not rows:
        typer.echo(empty)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for number, title in enumerate(header):
        table.add_column(
            title, no_wrap=number == 0, overflow="fold"
        )  # names are there to be copied
    for row in rows:
        table.add_row(*row)
    Console().print(table)
