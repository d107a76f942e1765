"""Write the clips of a version, or those that a search finds, as shards of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from data_curation.catalogue.documents import Document
from nemo_cosmos.data.sample import sha256_of
from nemo_cosmos.data.shards.layout import VERSION_FOLDER
from nemo_cosmos.data.shards.writer import CuratedWriter, read_shard
from nemo_cosmos.errors import ConfigError, MissingFileError, SampleError
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.storage.outputs import check_apart


def export_dataset(
    dataset: Document,
    clips: Iterable[Document],
    destination: str | os.PathLike[str],
    advance: Callable[[], None] = lambda: None,
) -> int:
    """Copy clips of a version into a new folder of shards, whole or not at all.

    Args:
        dataset: the version.
        clips: its clips, as returned by :meth:`Catalogue.clips`.
        destination: a folder that holds no shards yet.
        advance: callback after each clip.

    Returns:
        how many clips were written.

    Raises:
        ConfigError: the destination holds shards, or no clip was given.
        InputError: the destination lies inside the version's folder.
        MissingFileError: a shard of the version is gone.
        SampleError: a clip's content is not that of the version any more.
        StorageFullError: no space left; nothing was written.
    """
    target = Path(destination)
    if (target / VERSION_FOLDER).exists():
        raise ConfigError(
            f"'{target}' holds shards already. Export into another folder; versions do not change."
        )
    check_apart(target, [str(dataset["output"])])
    wanted: dict[str, dict[str, str]] = {}
    for clip in clips:
        wanted.setdefault(str(clip["shard"]), {})[clip["key"]] = clip["sha256"]
    if not wanted:
        raise ConfigError("No clip meets the conditions, so there is nothing to export.")
    target.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".tmp-", dir=target) as draft:
        with CuratedWriter(draft) as writer:
            for shard in sorted(wanted):
                _copy(dataset, shard, wanted[shard], writer, advance)
        with atomic_path(target / VERSION_FOLDER) as temporary:
            Path(draft, VERSION_FOLDER).rename(temporary)
    return sum(map(len, wanted.values()))


def _copy(
    dataset: Document,
    shard: str,
    wanted: dict[str, str],
    writer: CuratedWriter,
    advance: Callable[[], None],
) -> None:
    """Copy the wanted clips of one shard."""
    path = Path(dataset["output"]) / shard
    if not path.is_file():
        raise MissingFileError(
            f"The shard '{path}' of '{dataset['name']}@{dataset['version']}' is gone: its folder "
            "was curated again or deleted. Export a newer version, or curate with the settings of "
            "this one ('nemo-cosmos dataset show')."
        )
    samples = {sample.key: sample for sample in read_shard(path)}
    for key, sha256 in wanted.items():
        sample = samples.get(key)
        suffixes = [] if sample is None else [each for each in sample.members if each != "json"]
        files = {suffix: samples[key].read(suffix) for suffix in suffixes}
        if sample is None or sha256_of(files.get("mp4", b"")) != sha256:
            raise SampleError(
                f"Clip '{key}' in '{path}' is not the one of '{dataset['name']}@"
                f"{dataset['version']}' any more. The folder was curated again; export a newer "
                "version."
            )
        writer.add(sample.record, files)
        advance()
