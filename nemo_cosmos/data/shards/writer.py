"""Write and read WebDataset shards.

A sample is a group of files ``{key}.{suffix}`` in one tar, or in the tars of one number below
``video/``, ``metas/`` and ``t5_xxl/`` (the layout of curated data, see
:mod:`nemo_cosmos.data.shards.layout`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from nemo_cosmos.batch import view_suffix
from nemo_cosmos.data.sample import Sample, sha256_of
from nemo_cosmos.data.schema import VIEW_CHECKSUMS, ClipRecord
from nemo_cosmos.data.shards.index import INDEX_SUFFIX, load_index
from nemo_cosmos.data.shards.layout import MAX_SHARD_BYTES, TEXT_SUFFIX, bin_folder, shard_name
from nemo_cosmos.data.shards.open_shard import METAS, TEXT, VIDEO, OpenShard
from nemo_cosmos.data.shards.tar import index_tar
from nemo_cosmos.errors import MissingFileError, SampleError
from nemo_cosmos.storage import atomic_path, filesystem_of, is_url

SHARDS_PER_PART = 100


class ShardWriter:
    """Write samples into numbered tars; each appears whole, or not at all.

    Use it as a context manager. The bytes of a shard depend on the records, the files and their
    order alone. Beside each tar lies an ``.idx`` in the format of DALI's ``wds2idx``. Writing into
    a folder that holds shards starts a new part behind them.

    Args:
        folder: the folder that ``part_NNNNNN/`` are written into.
        split: whether to write ``video/part_...`` (mp4), ``t5_xxl/part_...`` (text embeddings) and
            ``metas/part_...`` (all else) as cosmos-curate does, instead of one tar for all.
        max_bytes: size that a tar does not exceed, unless one sample alone does.
        first: ``(part, number)`` of the first shard; by default the next free part.

    Raises:
        SampleError: a sample has no caption, or its key was written before.
        StorageFullError: no space left; finished shards are intact.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        split: bool = False,
        max_bytes: int = MAX_SHARD_BYTES,
        first: tuple[int, int] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.split = split
        self.max_bytes = max_bytes
        self.finished: list[str] = []
        self.num_samples = 0
        self._part, self._number = first or (_next_part(self.folder), 0)
        self._open: OpenShard | None = None
        self._keys: set[str] = set()

    def add(self, record: ClipRecord, files: Mapping[str, bytes]) -> None:
        """Append a sample.

        Args:
            record: becomes ``{key}.json``.
            files: contents by suffix, for example ``{"mp4": ..., "action.npy": ...}``.
        """
        if record.key in self._keys:
            raise SampleError(
                f"The key '{record.key}' was written to '{self.folder}' before; expected each key "
                "once. Derive it from the source and the span."
            )
        contents = {"json": record.to_json(), **files}
        size_bytes = sum(len(content) for content in contents.values())
        if self._open is not None and self._open.size_bytes + size_bytes > self.max_bytes:
            self._finish()
        if self._open is None:
            # Either all samples of a data set have text embeddings, or none has.
            text = (TEXT,) if TEXT_SUFFIX in files else ()
            kinds = (VIDEO, METAS, *text) if self.split else ("",)
            self._open = OpenShard({kind: self._path(kind) for kind in kinds})
        self._open.add(record.key, contents)
        self._keys.add(record.key)
        self.num_samples += 1

    def close(self) -> None:
        """Finish the last shard."""
        if self._open is not None:
            self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        elif self._open is not None:
            self._open.discard(error)

    def _path(self, kind: str) -> Path:
        return self.folder / kind / shard_name(self._part, self._number)

    def _finish(self) -> None:
        shard, self._open = self._open, None
        if shard is not None:
            shard.finish()
        self.finished.append(shard_name(self._part, self._number))
        self._number += 1
        if self._number == SHARDS_PER_PART:
            self._part, self._number = self._part + 1, 0


class CuratedWriter:
    """Write clips into the bins of cosmos-curate's layout, with ``wdinfo.json`` in each.

    Use it as a context manager.

    Args:
        root: the data set's folder; the bins go below ``v0/``.
        max_bytes: size of a tar.
    """

    def __init__(self, root: str | os.PathLike[str], *, max_bytes: int = MAX_SHARD_BYTES) -> None:
        self.root = Path(root)
        self.max_bytes = max_bytes
        self._writers: dict[str, ShardWriter] = {}

    def add(self, record: ClipRecord, files: Mapping[str, bytes]) -> str:
        """Append a sample to its bin and return the bin's folder; see :meth:`ShardWriter.add`."""
        suffixes = {view: view_suffix(record.views, view) for view in record.views}
        for suffix in suffixes.values():
            if suffix not in files:
                raise SampleError(
                    f"Sample '{record.key}' has no {suffix} (it has: "
                    f"{', '.join(files) or 'nothing'}). Pass the encoded clip as "
                    f"files['{suffix}']."
                )
        folder = bin_folder(record.width, record.height, record.duration_s)
        if folder not in self._writers:
            self._writers[folder] = ShardWriter(
                self.root / folder, split=True, max_bytes=self.max_bytes
            )
        checked = record
        if not record.sha256:
            checked = with_checksums(record, files)
        self._writers[folder].add(checked, files)
        return folder

    def close(self) -> None:
        """Finish every bin and write its ``wdinfo.json``, and ``wdinfo_list.csv`` for all."""
        for folder, writer in self._writers.items():
            writer.close()
            _write_wdinfo(self.root, folder)
        paths = sorted(self.root.glob("v0/*/*/*/wdinfo.json"))
        with atomic_path(self.root / "v0" / "wdinfo_list.csv") as temporary:
            names = [path.relative_to(self.root).as_posix() for path in paths]
            temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with ExitStack() as stack:
            for writer in self._writers.values():
                stack.push(writer.__exit__)
            if error is not None:
                raise error
            self.close()


def with_checksums(record: ClipRecord, files: Mapping[str, bytes]) -> ClipRecord:
    """A record with the checksums of its videos.

    Args:
        record: the record.
        files: contents by suffix, with the video of each view.
    """
    sums = {view: sha256_of(files[view_suffix(record.views, view)]) for view in record.views}
    first = sums.pop(record.views[0])
    return record.with_changes(sha256=first, **({VIEW_CHECKSUMS: sums} if sums else {}))


def list_shards(location: str | os.PathLike[str]) -> list[str]:
    """Find the shards of a tar, a folder or a URL, in alphabetical order.

    The tar in ``video/...`` stands for its twins in ``metas/...`` and ``t5_xxl/...``. A missing tar
    whose index exists is listed, so that reading it reports the loss.

    Raises:
        MissingFileError: the location does not exist, or holds no tar.
    """
    name = os.fspath(location)
    filesystem, path = filesystem_of(name)
    filesystem.invalidate_cache()
    if not filesystem.exists(path):
        raise MissingFileError(
            f"There is no file or folder '{name}'. Name a shard, or a folder with shards that "
            "'nemo-cosmos curate' or 'nemo-cosmos tokenize' wrote."
        )
    if filesystem.isfile(path):
        return [name]
    found = {
        (filesystem.unstrip_protocol(entry) if is_url(name) else entry).removesuffix(INDEX_SUFFIX)
        for entry in filesystem.find(path)
        if entry.endswith((".tar", f".tar{INDEX_SUFFIX}")) and not _is_leftover(entry)
    }
    twins = tuple(f"/{kind}/part_" for kind in (METAS, TEXT))
    shards = sorted(entry for entry in found if not any(twin in entry for twin in twins))
    if not shards:
        raise MissingFileError(
            f"The folder '{name}' holds no shard (a file that ends in .tar). Name a folder that "
            "'nemo-cosmos curate' or 'nemo-cosmos tokenize' wrote; if this is one, every clip was "
            "rejected, and its report says why."
        )
    return shards


def read_shard(shard: str | os.PathLike[str], required: Iterable[str] = ("json",)) -> list[Sample]:
    """Return all samples of one shard, in order.

    Args:
        shard: a tar, as :func:`list_shards` gives it.
        required: suffixes that every sample must have.

    Raises:
        MissingFileError: a tar does not exist.
        SampleError: a tar is truncated or damaged, or a sample lacks a file; names both.
    """
    index = load_index(shard, keep=False)
    for suffix in required:
        row = index.row_without(suffix)
        if row is not None:
            Sample(index, row).read(suffix)  # raises with what is missing and what to do
    return [Sample(index, row) for row in range(len(index))]


def read_samples(
    location: str | os.PathLike[str], required: Iterable[str] = ("json",)
) -> list[Sample]:
    """Return all samples of every shard below a location; see :func:`list_shards`."""
    wanted = tuple(required)
    return [sample for shard in list_shards(location) for sample in read_shard(shard, wanted)]


def _is_leftover(path: str) -> bool:
    """Whether a killed process left it behind; see :func:`nemo_cosmos.storage.atomic_path`."""
    return any(piece.startswith(".tmp-") for piece in path.split("/"))


def _next_part(folder: Path) -> int:
    parts = [
        int(path.name.removeprefix("part_"))
        for kind in (".", VIDEO, METAS, TEXT)
        for path in (folder / kind).glob("part_[0-9]*")
    ]
    return max(parts, default=-1) + 1


def _write_wdinfo(root: Path, folder: str) -> None:
    """Describe one bin as cosmos-curate does."""
    tars = sorted((root / folder / VIDEO).glob("part_*/*.tar"))
    keys = sum(len({member.name.partition(".")[0] for member in index_tar(tar)}) for tar in tars)
    kinds = [kind for kind in (VIDEO, METAS, TEXT) if (root / folder / kind).is_dir()]
    info = {
        "data_keys": kinds,
        "chunk_size": SHARDS_PER_PART,
        "data_list": [tar.relative_to(root / folder / VIDEO).as_posix() for tar in tars],
        "root": folder,
        "total_key_count": keys,
    }
    with atomic_path(root / folder / "wdinfo.json") as temporary:
        temporary.write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
