"""Find the raw videos of an input: a folder, pattern, file or list, here or in a bucket."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

from fsspec.utils import glob_translate

from data_curation.clip import Clip
from data_curation.sidecars import stem_of_array
from data_curation.sources.endings import (
    COMMON_SUFFIXES,
    OTHER_SUFFIXES,
    VIDEO_SUFFIXES,
    opens_as_video,
)
from data_curation.sources.files import FETCHED
from nemo_cosmos.data.rlds import refuse_rlds
from nemo_cosmos.errors import MissingFileError
from nemo_cosmos.storage import (
    StoredObject,
    find_object,
    is_bucket,
    is_url,
    list_objects,
    open_url,
)
from nemo_cosmos.storage.paths import real_path

Place = TypeVar("Place")


#: What files are counted under that have no ending, and after the ending of those that are hidden.
NO_ENDING, HIDDEN = "(no ending)", " (hidden)"


def find_sources(
    location: str | os.PathLike[str],
    run_folder: Path,
    output: str | os.PathLike[str] = "",
    ignored: Counter[str] | None = None,
) -> list[Clip]:
    """List the videos of an input, in order of name.

    In a folder, those are the files with the ending of a video and those of an unknown ending that
    the decoder can open; hidden ones are left out. Whatever is named one by one is a source.

    Args:
        location: a folder (searched to any depth), a video, a glob pattern, or a ``.txt`` file with
            one path or URL a line (relative ones start at its folder; lines that begin with ``#``
            are comments); each may be an ``s3://``, ``gs://`` or ``az://`` URL.
        run_folder: the run's folder, which a pattern does not search; sources in buckets are copied
            into it one by one, while they are worked on.
        output: the place of the results, which a pattern does not search either.
        ignored: counter to which the other files are added by their endings, except those that
            belong to a source.

    Raises:
        MissingFileError: nothing is there, or no file in it is a video.
        ServiceError: a bucket gave no answer in all tries.
    """
    name = os.fspath(location)
    buckets = _Buckets(run_folder)
    if is_url(name):
        listing = _in_bucket(name, os.fspath(output), buckets)
    else:
        listing = _on_disk(name, run_folder)
    files = sorted(set(listing.files))
    chosen = [file for file in files if listing.is_named or _is_wanted(file, listing.root)]
    others = _count_others(files, chosen, listing.root)
    others.update({"listed twice": len(listing.files) - len(files)} if listing.is_named else {})
    is_closed = not is_url(name) and _is_closed(Path(name))
    if not chosen or is_closed:
        _refuse(name, is_closed, others)
    if ignored is not None:
        ignored.update(+others)
    folders = _Folders()
    clips = [
        buckets.clip(file, _below(file, listing.root))
        if is_url(file)
        else folders.clip(Path(file), _below(file, listing.root))
        for file in chosen
    ]
    return sorted(clips, key=lambda clip: clip.name)


def _refuse(name: str, is_closed: bool, others: Counter[str]) -> NoReturn:
    """Say why an input is none."""
    if not is_url(name):
        refuse_rlds(name)
    state = "holds no video" if is_url(name) or Path(name).exists() else "does not exist"
    state = "may not be read by this user" if is_closed else state
    found = ", ".join(f"{count} {ending}" for ending, count in sorted((+others).items()))
    raise MissingFileError(
        f"The input '{name}' {state}{f' (it holds {found})' if found else ''}. Expected a folder, "
        f"file, pattern or .txt list of videos ({', '.join(sorted(COMMON_SUFFIXES))} and others "
        "that FFmpeg reads), here or in a bucket. Check the spelling, or put videos there."
    )


def _is_wanted(file: str, root: str) -> bool:
    """Whether a file that was found is a source, or a folder that may hide some."""
    if not is_url(file) and _is_closed(Path(file)):
        return True
    if _is_hidden(file, root) or file.endswith("/"):
        return False
    suffix = _suffix(file)
    return suffix in VIDEO_SUFFIXES or (suffix not in OTHER_SUFFIXES and opens_as_video(file))


def _is_hidden(file: str, root: str) -> bool:
    return "/." in file.removeprefix(root)


def _count_others(files: Iterable[str], chosen: Iterable[str], root: str) -> Counter[str]:
    """Files that are no source and belong to none, by their endings."""
    stems = {_stem(file) for file in chosen}
    counts: Counter[str] = Counter()
    for file in set(files) - set(chosen):
        parent, _, base = file.rpartition("/")
        is_words = _suffix(file) == ".json"
        owner = _stem(file) if is_words else f"{parent}/{stem_of_array(base)}"
        if owner not in stems:
            hidden = HIDDEN if _is_hidden(file, root) else ""
            counts[(_suffix(file) or NO_ENDING) + hidden] += 1
    return counts


def _is_closed(path: Path) -> bool:
    return path.is_dir() and not os.access(path, os.R_OK | os.X_OK)


class _Listing(NamedTuple):
    """Files of an input.

    Attributes:
        root: the folder that names start at.
        files: all files, also those that are no videos.
        is_named: whether the user has named each of them.
    """

    root: str
    files: list[str]
    is_named: bool = False


def _on_disk(name: str, run_folder: Path) -> _Listing:
    path = Path(name)
    if path.is_dir():
        return _Listing(str(path), [str(each) for each in _walk(path)])
    if path.is_file() and path.suffix == ".txt":
        return _Listing(str(path.parent), _listed(name, str(path.parent)), is_named=True)
    if path.is_file():
        return _Listing(str(path.parent), [str(path)], is_named=True)
    matches = [Path(match) for match in glob.glob(name, recursive=True)]  # noqa: PTH207
    files = [match for match in matches if not match.is_dir() or _is_closed(match)]
    root, results = fixed_part(name), real_path(run_folder)
    if real_path(root) in results.parents:
        files = [file for file in files if results not in real_path(file).parents] or files
    return _Listing(root, [str(file) for file in files])


def _in_bucket(name: str, output: str, buckets: _Buckets) -> _Listing:
    """The files of a bucket; ``buckets`` remembers what is listed on the way."""
    if not is_bucket(name):
        raise MissingFileError(
            f"The input '{name}' cannot be listed. Expected a path on disk, or a URL that begins "
            "with s3://, gs:// or az://."
        )
    parent = name.rpartition("/")[0]
    if _suffix(name) and not glob.has_magic(name) and find_object(name) is not None:
        files = _listed(name, parent) if _suffix(name) == ".txt" else [name]
        return _Listing(parent, files, is_named=True)
    root, wanted = name.rstrip("/"), ".*"
    urls = buckets.add(list_objects(root))
    if not urls and glob.has_magic(name):
        root, wanted = fixed_part(name), glob_translate(name)
        urls = buckets.add(list_objects(root))
    matches = re.compile(wanted, re.DOTALL).fullmatch
    results = f"{output.rstrip('/')}/" if output else ""
    return _Listing(
        root,
        [url for url in urls if matches(url) and not (results and url.startswith(results))],
    )


def _listed(name: str, folder: str) -> list[str]:
    """The entries of a list, one a line."""
    with open_url(name) as handle:
        lines = [os.fsdecode(line).strip() for line in handle.read().splitlines()]
    entries = [line for line in lines if line and not line.startswith("#")]
    whole = [is_url(entry) or Path(entry).is_absolute() for entry in entries]
    joined = [e if w else f"{folder}/{e}" for e, w in zip(entries, whole, strict=True)]
    return [entry if is_url(entry) else str(Path(entry)) for entry in joined]


def _walk(folder: Path) -> Iterable[Path]:
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        yield from (here / name for name in files)
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


def _stem(file: str) -> str:
    """The path without its last ending."""
    return file.removesuffix(Path(file).suffix)


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def fixed_part(pattern: str) -> str:
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
