"""Check that results and videos lie apart, so that none is mixed with or replaced by another."""

from __future__ import annotations

import os
from pathlib import Path

from data_curation.clip import Clip
from data_curation.sources.find import fixed_part
from nemo_cosmos.errors import InputError
from nemo_cosmos.storage import is_url
from nemo_cosmos.storage.outputs import check_apart
from nemo_cosmos.storage.paths import real_path


def check_results_apart(
    location: str | os.PathLike[str],
    output: str | os.PathLike[str],
    run_folder: Path,
    sources: list[Clip],
) -> None:
    """Check that a run writes neither into its input nor over it.

    Args:
        location: the input: a folder, file, glob pattern or list, on disk or in a bucket.
        output: the place of the results.
        run_folder: the run's folder; another than ``output`` where that is in a bucket.
        sources: the videos that the input holds.

    Raises:
        InputError: the output is the input, or one lies inside the other.
    """
    name, results = os.fspath(location), os.fspath(output)
    if is_url(name):
        _check_in_bucket(name.rstrip("/"), results.rstrip("/"))
        return
    if Path(name).is_dir():
        check_apart(run_folder, [name])
        folders = {Path(name)}
    else:
        files = {clip.source for clip in sources if not clip.stored}
        check_apart(run_folder, files)
        folders = {file.parent for file in files}
    target = real_path(run_folder)
    for folder in sorted(folders):
        real = real_path(folder)
        if target == real or target in real.parents:
            _refuse(str(run_folder), str(folder))


def _check_in_bucket(name: str, results: str) -> None:
    """By their names alone; the results of a pattern are left out where it would match them."""
    root = fixed_part(name)
    if results == name or f"{root}/".startswith(f"{results}/"):
        _refuse(results, name)
    if root == name and results.startswith(f"{name}/"):
        raise InputError(
            f"'{results}' lies inside '{name}', which is read: what is written would mix with it. "
            "Choose another place."
        )


def _refuse(output: str, source: str) -> None:
    raise InputError(
        f"The videos in '{source}' lie in the output '{output}': what is written could replace "
        "them. Choose another place for the results, such as a new folder beside the videos."
    )
