"""``nemo-cosmos dataset``: versions of curated data."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.cli.kit.options import AsJson, number
from nemo_cosmos.cli.main import DATA, CommandEntry, CommandGroup
from nemo_cosmos.errors import ConfigError, counted
from nemo_cosmos.progress import show_progress

if TYPE_CHECKING:
    from data_curation.catalogue import Catalogue

CatalogueOption = Annotated[
    str | None,
    typer.Option("--catalogue", help="File or mongodb:// URL; the site's by default."),
]
#: Where earlier releases kept the catalogue: below the working folder.
OLD_CATALOGUE = Path("outputs/catalogue.db")
Version = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The newest by default.")]
Words = Annotated[
    str | None, typer.Option(help="Words that the caption must contain, all of them.")
]
Conditions = Annotated[
    list[str] | None,
    typer.Option(
        "--where", help="Condition, such as width>=1280 or scores.motion<0.1. Repeatable."
    ),
]


#: The group ``nemo-cosmos dataset``.
DATASET = CommandGroup(
    """List, search, compare, inspect, export and delete versions of curated data.

    A version never changes. [bold]nemo-cosmos curate[/bold] adds one when it ends. The catalogue is
    the file that the site names (storage.catalogue), by default
    ~/.local/share/nemo_cosmos/catalogue.db, or a mongodb:// URL for a team.

    Examples:
        nemo-cosmos dataset list
        nemo-cosmos dataset query robot --words "red block" --where "scores.motion>=0.01"
        nemo-cosmos dataset diff robot@1 robot@2
    """,
    {
        "list": CommandEntry("data.dataset:list_versions", DATA, "List all versions."),
        "show": CommandEntry("data.dataset:show", DATA, "Show a version, or a clip's history."),
        "diff": CommandEntry("data.dataset:diff", DATA, "Compare two versions."),
        "query": CommandEntry("data.dataset:query", DATA, "Search clips by caption and scores."),
        "export": CommandEntry("data.dataset:export", DATA, "Copy what a search finds."),
        "inspect": CommandEntry(
            "data.inspection:inspect", DATA, "Find faults in a data set's actions or cameras."
        ),
        "shard": CommandEntry(
            "data.recorded:shard", DATA, "Write recordings into shards as they are."
        ),
        "codes": CommandEntry(
            "data.decoder_codes:codes", DATA, "Put codes beside latents, for a diffusion decoder."
        ),
        "lerobot": CommandEntry(
            "data.lerobot:write", DATA, "Write episodes as a LeRobot data set."
        ),
        "add": CommandEntry("data.dataset:add", DATA, "Add a curated folder as a version."),
        "retain": CommandEntry("data.dataset:retain", DATA, "Delete files past their time."),
    },
)


def list_versions(catalogue: CatalogueOption = None, as_json: AsJson = False) -> None:
    """List every version of every data set.

    Examples:
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
    clip: Annotated[str | None, typer.Option(help="Key of a clip to follow back.")] = None,
    catalogue: CatalogueOption = None,
    as_json: AsJson = False,
) -> None:
    """Show a version with the settings that made it, or follow one clip back to its source.

    Examples:
        nemo-cosmos dataset show robot@2
        nemo-cosmos dataset show robot --clip 0b1c6c1e-5b1e-5a3c-8f0e-3f5f0f6a1b2c
    """
    with open_site_catalogue(catalogue) as opened:
        found = opened.dataset(version)
        history = opened.lineage(clip) if clip else None
    if as_json:
        _print_lines([found] if history is None else history)
        return
    lines = [describe_version(found)] if history is None else map(describe_clip, history)
    typer.echo("\n\n".join(lines))


def diff(
    first: Version, second: Version, catalogue: CatalogueOption = None, as_json: AsJson = False
) -> None:
    """Compare two versions: clips added, removed or changed, and settings that differ.

    Examples:
        nemo-cosmos dataset diff robot@1 robot@2
    """
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
        typer.echo(f"{counted(len(keys), 'clip')} {word}")
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
        typer.Option(metavar="KEY", help="Find clips that look like this one, nearest first."),
    ] = None,
    limit: Annotated[int, number("The most clips to show.", least=1, most=1e9)] = 50,
    catalogue: CatalogueOption = None,
    as_json: AsJson = False,
) -> None:
    """Search clips by caption, size, length and scores, or by similarity to a clip.

    Fields: key, source, fps, num_frames, duration_s, width, height, scores.NAME, extra.NAME.

    Examples:
        nemo-cosmos dataset query --words "red block"
        nemo-cosmos dataset query robot@2 --where "duration_s>=5" --where "scores.motion>0.01" --json
        nemo-cosmos dataset query robot --like 0b1c6c1e-5b1e-5a3c-8f0e-3f5f0f6a1b2c --limit 5
    """  # noqa: E501 - a command stays on one line
    from data_curation.catalogue import parse_conditions

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
    destination: Annotated[Path, typer.Argument(help="A new folder for the shards.")],
    words: Words = None,
    where: Conditions = None,
    catalogue: CatalogueOption = None,
) -> None:
    """Copy a version, or the clips of it that a search finds, into new shards.

    Examples:
        nemo-cosmos dataset export robot@2 shards/robot_v2
        nemo-cosmos dataset export robot shards/reach --words reaches --where "duration_s>=2"
    """
    from data_curation.catalogue import export_dataset, parse_conditions

    with open_site_catalogue(catalogue) as opened:
        chosen = opened.dataset(version)
        conditions = parse_conditions(where or [])
        clips = list(opened.clips(chosen, words=words, where=conditions))
    with show_progress("Copying", "clips") as update:
        done = itertools.count(1)
        num_clips = export_dataset(
            chosen, clips, destination, lambda: update(next(done), len(clips))
        )
    typer.echo(f"{counted(num_clips, 'clip')} in '{destination}'.")


def add(
    output: Annotated[Path, typer.Argument(help="Folder that 'nemo-cosmos curate' wrote.")],
    name: Annotated[
        str | None, typer.Option(help="Data set; by default the folder's name.")
    ] = None,
    source: Annotated[Path | None, typer.Option(help="The input folder of that run.")] = None,
    catalogue: CatalogueOption = None,
) -> None:
    """Add a curated folder to the catalogue, as the next version of a data set.

    Examples:
        nemo-cosmos dataset add outputs/robot --source raw/robot
    """
    with open_site_catalogue(catalogue) as opened:
        version = opened.add(output, name or output.absolute().name, source or "")
    typer.echo(f"{version['name']}@{version['version']}: {version['num_clips']} clips.")


def retain(
    raw_days: Annotated[int | None, number("Days to keep sources.", least=0, most=36500)] = None,
    processed_days: Annotated[
        int | None, number("Days to keep shards.", least=0, most=36500)
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Delete; without it, only list.")] = False,
    catalogue: CatalogueOption = None,
) -> None:
    """List sources and shards that are past their time, and delete them with --apply.

    By default sources are kept for 90 days and shards for a year. Files are overwritten before they
    are deleted. Their records stay in the catalogue.

    Examples:
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
            kept = f"; kept: {each.keep_because}" if each.keep_because else ""
            typer.echo(
                f"{each.kind}: {each.path} ({each.size_bytes / 1e6:.1f} MB, "
                f"{each.age_days} days{kept})"
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
    dataset: JsonObject | None,
    key: str,
    words: str | None,
    conditions: JsonObject,
) -> list[JsonObject]:
    """Find clips of a version that look like one of its clips and meet the conditions."""
    from data_curation.catalogue import similar_clips

    if dataset is None:
        raise ConfigError(
            "--like compares clips of one version; name it: nemo-cosmos dataset query NAME "
            "--like KEY."
        )
    allowed = {clip["_id"] for clip in opened.clips(dataset, words=words, where=conditions)}
    found = similar_clips(opened, dataset, key, limit=dataset["num_clips"])
    return [clip for clip in found if clip["_id"] in allowed]


def open_site_catalogue(location: str | None) -> Catalogue:
    """Open the catalogue that was named, else the site's."""
    from data_curation.catalogue import open_catalogue

    return open_catalogue(location or site_catalogue())


def site_catalogue() -> str:
    """The site's catalogue; an older one in the working folder is mentioned until there is one."""
    from nemo_cosmos.site import compose_site

    location = str(compose_site()["storage"]["catalogue"])
    if OLD_CATALOGUE.exists() and "://" not in location and not Path(location).exists():
        typer.echo(
            f"This folder holds a catalogue of an earlier release, '{OLD_CATALOGUE}'; new versions "
            f"go to '{location}'. To stay with the old one: nemo-cosmos configure "
            f"storage.catalogue={OLD_CATALOGUE.absolute()}",
            err=True,
        )
    return location


def _print_lines(documents: list[JsonObject]) -> None:
    for document in documents:
        typer.echo(json.dumps(document, ensure_ascii=False))


def _print_table(header: list[str], rows: list[list[str]], empty: str) -> None:
    if not rows:
        typer.echo(empty)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for place, title in enumerate(header):
        table.add_column(title, no_wrap=place == 0, overflow="fold")  # names are there to be copied
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def describe_version(dataset: JsonObject) -> str:
    """Describe a version: its contents, its place, and the settings that are not the defaults."""
    config = dataset["config"]
    reasons = sorted(config.get("rejected", {}).items(), key=lambda item: (-item[1], item[0]))
    rejected = ", ".join(f"{count} {name}" for name, count in reasons) or "nothing"
    lines = [
        f"{dataset['name']}@{dataset['version']}, made {dataset['created']}",
        f"  clips:    {dataset['num_clips']:,} ({dataset['duration_s']:,.1f} s)",
        f"  rejected: {rejected}",
        f"  sources:  {dataset['source'] or 'a list, a pattern or one file'}",
        f"  shards:   {_place(dataset)}",
    ]
    changed = list(_unusual(config.get("settings") or {}))
    return "\n".join([*lines, "  settings: " + (", ".join(changed) or "the defaults")])


def describe_clip(clip: JsonObject) -> str:
    """Describe a clip: its contents, its source, and the versions that contain it."""
    video = clip["video"] or {}
    place = video.get("location") or clip["source"]
    deleted = f", deleted {video['deleted']}" if video.get("deleted") else ""
    start_s, end_s = clip["span_s"]
    lines = [
        clip["key"],
        f"  caption: {clip['caption']} ({clip['caption_source']})",
        f"  picture: {clip['width']}x{clip['height']}, {clip['num_frames']} frames at "
        f"{clip['fps']:g} a second",
        f"  source:  {place}, {start_s:.2f} s to {end_s:.2f} s{deleted}",
        *(f"  in:      {_name(each)}, {_place(each, each['shard'])}" for each in clip["datasets"]),
        *(f"  {name} = {value:.6g}" for name, value in sorted(clip["scores"].items())),
    ]
    return "\n".join(lines)


def _name(dataset: JsonObject) -> str:
    return f"{dataset['name']}@{dataset['version']}"


def _place(dataset: JsonObject, shard: str = "v0") -> str:
    if dataset["deleted"]:
        return f"deleted {dataset['deleted']}"
    return f"{dataset['output'].rstrip('/')}/{shard}"


def _unusual(settings: JsonObject) -> Iterator[str]:
    """Yield the settings that differ from the defaults, as ``split.min_clip_s = 1.0``."""
    from data_curation.settings import CurateSettings

    usual = CurateSettings().to_json()
    for stage, values in settings.items():
        before = usual.get(stage)
        if not isinstance(values, Mapping):
            if _plain(values) != _plain(before):
                yield f"{stage} = {values}"
            continue
        for name, value in values.items():
            if not isinstance(before, Mapping) or _plain(value) != _plain(before.get(name)):
                yield f"{stage}.{name} = {value}"


def _plain(value: Any) -> Any:
    """Return a value as it comes back from JSON, which has no tuples."""
    return list(value) if isinstance(value, tuple) else value
