"""Find the raw videos of an input: a folder, pattern, file or list, here or in a bucket."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from fsspec.utils import glob_translate

from data_curation.clip import Clip
from data_curation.sidecars import stem_of_array
from data_curation.sources.files import FETCHED
from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.storage import (
    StoredObject,
    find_object,
    is_bucket,
    is_url,
    list_objects,
    open_url,
)

Place = TypeVar("Place")

_SUFFIXES = ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .ogv .wmv .flv .3gp"
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split())


def find_sources(
    location: str | os.PathLike[str], run_folder: Path, output: str | os.PathLike[str] = ""
) -> list[Clip]:
    """List the videos of an input, in order of name.

    Args:
        location: a folder (searched to any depth, hidden folders left out), a video, a glob
            pattern, or a ``.txt`` file with one path or URL a line (relative ones start at its
            folder); each may be an ``s3://``, ``gs://`` or ``az://`` URL.
        run_folder: the run's folder, which is left out when it is inside the input; sources in
            buckets are copied into it one by one, while they are worked on.
        output: the place of the results, which is left out as well.

    Raises:
        MissingFileError: nothing is there, or no file in it has the ending of a video.
        ServiceError: a bucket gave no answer in all tries.
    """
    name = os.fspath(location)
    buckets = _Buckets(run_folder)
    if is_url(name):
        root, files = _in_bucket(name, os.fspath(output), buckets)
    else:
        root, files = _on_disk(name, run_folder)
    chosen = sorted({file for file in files if _is_wanted(file)})
    is_closed = not is_url(name) and _is_closed(Path(name))
    if not chosen or is_closed:
        state = "holds no video" if is_url(name) or Path(name).exists() else "does not exist"
        state = "may not be read by this user" if is_closed else state
        raise MissingFileError(
            f"The input '{name}' {state}. Expected a folder, file, pattern or .txt list of videos "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}), here or in a bucket. Check the spelling, or "
            "put videos there."
        )
    folders = _Folders()
    clips = [
        buckets.clip(file, _below(file, root))
        if is_url(file)
        else folders.clip(Path(file), _below(file, root))
        for file in chosen
    ]
    return sorted(clips, key=lambda clip: clip.name)


def _is_wanted(file: str) -> bool:
    """Whether it is to be accounted for: a video by its name, or a folder that hides some."""
    return _suffix(file) in VIDEO_SUFFIXES or (not is_url(file) and _is_closed(Path(file)))


def _is_closed(path: Path) -> bool:
    return path.is_dir() and not os.access(path, os.R_OK | os.X_OK)


def _on_disk(name: str, run_folder: Path) -> tuple[str, Iterable[str]]:
    """The folder that names start at, and the files."""
    path = Path(name)
    if path.is_dir():
        return str(path), map(str, _walk(path, run_folder.absolute()))
    if path.is_file() and path.suffix == ".txt":
        return str(path.parent), _listed(name, str(path.parent))
    if path.is_file():
        return str(path.parent), [str(path)]
    matches = glob.glob(name, recursive=True)  # noqa: PTH207
    return _fixed_part(name), [str(Path(match)) for match in matches]


def _in_bucket(name: str, output: str, buckets: _Buckets) -> tuple[str, Iterable[str]]:
    """As :func:`_on_disk`; ``buckets`` remembers what is listed on the way."""
    if not is_bucket(name):
        raise MissingFileError(
            f"The input '{name}' cannot be listed. Expected a path on disk, or a URL that begins "
            "with s3://, gs:// or az://."
        )
    parent = name.rpartition("/")[0]
    if _suffix(name) in {".txt", *VIDEO_SUFFIXES} and find_object(name) is not None:
        return parent, _listed(name, parent) if _suffix(name) == ".txt" else [name]
    root, wanted = name.rstrip("/"), ".*"
    urls = buckets.add(list_objects(root))
    if not urls and glob.has_magic(name):
        root, wanted = _fixed_part(name), glob_translate(name)
        urls = buckets.add(list_objects(root))
    matches = re.compile(wanted, re.DOTALL).fullmatch
    results = f"{output.rstrip('/')}/" if output else ""
    return root, [
        url
        for url in urls
        if matches(url)
        and "/." not in url[len(root) :]
        and not (results and url.startswith(results))
    ]


def _listed(name: str, folder: str) -> list[str]:
    """The entries of a list, one a line."""
    with open_url(name) as handle:
        lines = [os.fsdecode(line).strip() for line in handle.read().splitlines()]
    entries = [line for line in lines if line]
    whole = [is_url(entry) or Path(entry).is_absolute() for entry in entries]
    joined = [e if w else f"{folder}/{e}" for e, w in zip(entries, whole, strict=True)]
    return [entry if is_url(entry) else str(Path(entry)) for entry in joined]


def _walk(folder: Path, run_folder: Path) -> Iterable[Path]:
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (here / name).absolute() != run_folder
        ]
        yield from (here / name for name in files if not name.startswith("."))
        yield from (here / name for name in folders if _is_closed(here / name))


class _Folders:
    """Folders on disk, each listed once for the sidecars of its videos."""

    def __init__(self) -> None:
        self._arrays: dict[Path, dict[str, list[Path]]] = {}

    def clip(self, file: Path, name: str) -> Clip:
        """The source of a file."""
        folder = file.parent
        if folder not in self._arrays:
            is_open = folder.is_dir() and not _is_closed(folder)
            paths = sorted(folder.iterdir()) if is_open else []
            self._arrays[folder] = _by_stem((path.name, path) for path in paths)
        return Clip(source=file, name=name, arrays=tuple(self._arrays[folder].get(file.stem, ())))


class _Buckets:
    """Folders in buckets, each listed once for the versions of its videos and their sidecars."""

    def __init__(self, run_folder: Path) -> None:
        self._fetched = run_folder / ".work" / FETCHED
        self._folders: dict[str, dict[str, StoredObject]] = {}
        self._arrays: dict[str, dict[str, list[StoredObject]]] = {}

    def add(self, items: Iterable[StoredObject]) -> list[str]:
        """Remember the objects of whole folders; returns their URLs."""
        for item in items:
            folder, _, name = item.url.rpartition("/")
            self._folders.setdefault(folder, {})[name] = item
        return [item.url for names in self._folders.values() for item in names.values()]

    def clip(self, url: str, name: str) -> Clip:
        """The source of an object; of one that is not there, which *probe* finds out."""
        folder, _, file = url.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = {}
            self.add(list_objects(folder, deep=False))
        names = self._folders[folder]
        if folder not in self._arrays:
            self._arrays[folder] = _by_stem(sorted(names.items()))
        stem = Path(file).stem
        arrays = self._arrays[folder].get(stem, [])
        words = [names[f"{stem}.json"]] if f"{stem}.json" in names else []
        place = self._fetched / hashlib.sha256(url.encode()).hexdigest()[:24]
        return Clip(
            source=place / file,
            name=name,
            arrays=tuple(place / Path(item.url).name for item in arrays),
            stored=(names.get(file, StoredObject(url, 0, "")), *words, *arrays),
        )


def _by_stem(files: Iterable[tuple[str, Place]]) -> dict[str, list[Place]]:
    """Array sidecars by the stem of their video."""
    found: dict[str, list[Place]] = defaultdict(list)
    for name, place in files:
        found[stem_of_array(name)].append(place)
    return found


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _fixed_part(pattern: str) -> str:
    """The folder of a pattern before its first wildcard."""
    fixed = []
    for piece in pattern.split("/"):
        if glob.has_magic(piece):
            break
        fixed.append(piece)
    return "/".join(fixed)


def _below(file: str, root: str) -> str:
    if is_url(file):
        return file.removeprefix(f"{root}/")
    try:
        name = Path(file).relative_to(root).as_posix()
    except ValueError:
        name = Path(file).as_posix()
    # Bytes that are no text are spelled out: names go into JSON, databases and ids.
    return os.fsencode(name).decode("utf-8", "backslashreplace")
