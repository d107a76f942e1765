"""Find the raw videos of an input: a folder, a pattern, one file, or a list of paths."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from data_curation.stages.base import Clip
from nemo_cosmos.errors import MissingFileError

_SUFFIXES = ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .ogv .wmv .flv .3gp"
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split())


def find_sources(location: str | os.PathLike[str], output: Path) -> list[Clip]:
    """List the videos of an input, in order of name.

    Args:
        location: a folder (searched to any depth, hidden folders left out), a video, a glob
            pattern, or a ``.txt`` file with one path a line (relative ones start at its folder).
        output: the run's output folder, which is left out when it lies inside the input.

    Raises:
        MissingFileError: nothing is there, or no file in it has the ending of a video.
    """
    name = os.fspath(location)
    path = Path(name)
    if path.is_dir():
        files, root = _walk(path, output.absolute()), path
    elif path.is_file() and path.suffix == ".txt":
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        files = [path.parent / line for line in lines if line]
        root = path.parent
    elif path.is_file():
        files, root = [path], path.parent
    else:
        files = [Path(match) for match in glob.glob(name, recursive=True)]  # noqa: PTH207
        root = _fixed_part(name)
    chosen = sorted({file for file in files if _is_wanted(file)})
    if not chosen or _is_closed(path):
        state = "holds no video" if path.exists() else "does not exist"
        state = "may not be read by this user" if _is_closed(path) else state
        raise MissingFileError(
            f"The input '{name}' {state}. Expected a folder, file, pattern or .txt list of videos "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}). Check the spelling, or put videos there."
        )
    clips = [Clip(source=file, name=_relative(file, root)) for file in chosen]
    return sorted(clips, key=lambda clip: clip.name)


def _is_wanted(file: Path) -> bool:
    """Whether it is to be accounted for: a video by its name, or a folder that hides some."""
    return file.suffix.lower() in VIDEO_SUFFIXES or _is_closed(file)


def _is_closed(path: Path) -> bool:
    return path.is_dir() and not os.access(path, os.R_OK | os.X_OK)


def _walk(folder: Path, output: Path) -> Iterable[Path]:
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (here / name).absolute() != output
        ]
        yield from (here / name for name in files if not name.startswith("."))
        yield from (here / name for name in folders if _is_closed(here / name))


def _fixed_part(pattern: str) -> Path:
    """The folder of a pattern before its first wildcard."""
    fixed = []
    for piece in Path(pattern).parts:
        if glob.has_magic(piece):
            break
        fixed.append(piece)
    return Path(*fixed)


def _relative(file: Path, root: Path) -> str:
    try:
        name = file.relative_to(root).as_posix()
    except ValueError:
        name = file.as_posix()
    # Bytes that are no text are spelled out: names go into JSON, databases and ids.
    return os.fsencode(name).decode("utf-8", "backslashreplace")
