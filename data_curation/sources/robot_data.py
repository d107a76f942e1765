"""Notice robot data sets, whose actions and instructions are not beside their videos.

Curation reads ``name.json`` and ``name.action.npy`` beside ``name.mp4``. Bridge and LeRobot keep
them in folders of their own, so that their videos alone would be curated, without a word.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable
from glob import has_magic
from pathlib import Path

from data_curation.clip import Clip
from nemo_cosmos.errors import InputError
from nemo_cosmos.storage import find_object, is_bucket, list_objects

#: How far above a video the folder of its data set may be: LeRobot 2 has three folders between.
_MOST_ABOVE = 6
_NAMES = {"bridge": "Bridge", "lerobot": "LeRobot"}


def refuse_robot_data(location: str | os.PathLike[str], sources: Iterable[Clip]) -> None:
    """Refuse the videos of a robot data set of others.

    Args:
        location: the input of a run.
        sources: the sources that were found there.

    Raises:
        InputError: names the data set and the command that keeps its actions.
    """
    if is_bucket(location):
        url = os.fspath(location).rstrip("/")
        # A file or pattern may be all that this user may read.
        is_folder = not (Path(url).suffix or has_magic(url))
        if is_folder and (kind := _kind_of_url(url)):
            raise InputError(_advice(kind, os.fspath(location), "its copy on this machine"))
        return
    seen: dict[Path, str] = {}
    for folder in dict.fromkeys(clip.source.absolute().parent for clip in sources):
        for above in (folder, *folder.parents)[:_MOST_ABOVE]:
            if above not in seen:
                seen[above] = _kind_of(above)
            if seen[above]:
                raise InputError(_advice(seen[above], str(above), shlex.quote(str(above))))
        if noun := _holds_views(folder):
            raise InputError(
                f"'{folder}' holds {noun}: each is the videos of several cameras, which curation "
                "would tear apart. Write them into shards as they are: nemo-cosmos dataset shard "
                f"{shlex.quote(str(folder))} SHARDS. To take the videos alone, add --videos-only."
            )


def _advice(kind: str, place: str, source: str) -> str:
    out = shlex.quote(f"{Path(place).name}_episodes")
    return (
        f"'{place}' is a {_NAMES[kind]} data set: its actions and instructions are not beside its "
        f"videos and would be lost. Convert it first: nemo-cosmos convert {kind} {source} {out}, "
        f"then give {out} as the input. To take the videos alone, add --videos-only."
    )


def _kind_of(folder: Path) -> str:
    """``bridge``, ``lerobot``, or nothing."""
    if (folder / "meta" / "info.json").is_file() and (folder / "data").is_dir():
        return "lerobot"
    has_annotations = (folder / "annotation").is_dir() and (folder / "videos").is_dir()
    if has_annotations and next(folder.glob("annotation/*/*.json"), None) is not None:
        return "bridge"
    return ""


def _holds_views(folder: Path) -> str:
    """What a folder lists of several cameras, as 'simulate' and 'convert' do; empty for nothing."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    if not isinstance(manifest, dict):
        return ""
    if manifest.get("format") == "nemo_cosmos.drives":
        return "drives"
    settings = manifest.get("settings")
    return "episodes" if isinstance(settings, dict) and settings.get("views") else ""


def _kind_of_url(url: str) -> str:
    if find_object(f"{url}/meta/info.json") is not None:
        return "lerobot"
    return (
        "bridge" if any(o.url.endswith(".json") for o in list_objects(f"{url}/annotation")) else ""
    )
