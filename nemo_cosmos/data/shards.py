"""Write and read WebDataset shards.

A sample is a group of files ``{key}.{suffix}`` in one tar, or in the tars of one number below
``video/`` and ``metas/`` (the layout of curated data, see :mod:`nemo_cosmos.data.layout`).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import fsspec
import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.data.layout import bin_folder, shard_name
from nemo_cosmos.data.open_shard import METAS, VIDEO, OpenShard
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.tar import Member, index_tar
from nemo_cosmos.errors import MissingFileError, NemoCosmosError, SampleError
from nemo_cosmos.storage import atomic_path, is_url

MAX_SHARD_BYTES = 500 * 1024 * 1024
SHARDS_PER_PART = 100


def sha256_of(content: bytes) -> str:
    """Checksum in hexadecimal, as kept in :attr:`ClipRecord.sha256`."""
    return hashlib.sha256(content).hexdigest()


class ShardWriter:
    """Write samples into numbered tars; each appears whole, or not at all.

    Use it as a context manager. The bytes of a shard depend on the records, the files and their
    order alone. Beside each tar stands an ``.idx`` in the format of DALI's ``wds2idx``. Writing
    into a folder that holds shards starts a new part behind them.

    Args:
        folder: where ``part_NNNNNN/`` go.
        split: write ``video/part_...`` (mp4) and ``metas/part_...`` (all else) as cosmos-curate
            does, instead of one tar for all.
        max_bytes: start a new tar before this size is passed; one sample may be larger.
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
            tars = {kind: self._path(kind) for kind in ((VIDEO, METAS) if self.split else ("",))}
            self._open = OpenShard(tars)
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
        if "mp4" not in files:
            raise SampleError(
                f"Sample '{record.key}' has no mp4 (it has: {', '.join(files) or 'nothing'}). "
                "Pass the encoded clip as files['mp4']."
            )
        folder = bin_folder(record.width, record.height, record.duration_s)
        if folder not in self._writers:
            self._writers[folder] = ShardWriter(
                self.root / folder, split=True, max_bytes=self.max_bytes
            )
        checked = record
        if not record.sha256:
            checked = record.with_changes(sha256=sha256_of(files["mp4"]))
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
            temporary.write_text("".join(f"{name}\n" for name in names))

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


@dataclass(frozen=True)
class Sample:
    """One sample of a shard; its files are read when they are asked for.

    Attributes:
        key: its name.
        shard: path or URL of its shard, for messages.
        members: its files by suffix (``mp4``, ``json``, ``action.npy``, ...).
    """

    key: str
    shard: str
    members: Mapping[str, Member]

    def read(self, suffix: str) -> bytes:
        """Return the content of one file.

        Raises:
            SampleError: the sample has no such file.
        """
        if suffix not in self.members:
            raise SampleError(
                f"{self.where} has no '{suffix}' (it has: {', '.join(sorted(self.members))}). "
                f"{_REMEDIES.get(suffix, 'Write the shard again with it.')}"
            )
        return self.members[suffix].read()

    def array(self, suffix: str) -> NDArray[Any]:
        """Return an ``.npy`` file as an array; pickled objects are refused."""
        try:
            return np.load(io.BytesIO(self.read(suffix)), allow_pickle=False)
        except (ValueError, EOFError) as error:
            if isinstance(error, NemoCosmosError):
                raise
            raise SampleError(
                f"'{suffix}' of {self.where} is not an array of numbers: {error}. Write the shard "
                "again."
            ) from error

    @property
    def where(self) -> str:
        """Shard and key, for messages."""
        return f"sample '{self.key}' of '{self.shard}'"

    @cached_property
    def record(self) -> ClipRecord:
        """What its JSON says."""
        return ClipRecord.from_json(self.read("json"), self.where)

    def verify(self) -> None:
        """Compare the mp4 with the checksum in the JSON.

        Raises:
            SampleError: they differ.
        """
        found = sha256_of(self.read("mp4"))
        if self.record.sha256 and found != self.record.sha256:
            raise SampleError(
                f"The mp4 of {self.where} has sha256 {found}, expected {self.record.sha256}. The "
                "shard is damaged; copy or write it again."
            )


_REMEDIES = {
    "latent.safetensors": "Make latents with 'nemo-cosmos tokenize' and train on its output.",
    "t5.safetensors": "Run 'nemo-cosmos tokenize' with --text-encoder.",
    "action.npy": "Train without action control, or use shards that carry actions.",
    "mp4": "Use curated shards, or run 'nemo-cosmos tokenize' with --keep-video.",
}


def list_shards(location: str | os.PathLike[str]) -> list[str]:
    """Find the shards of a tar, a folder or a URL, in alphabetical order.

    Of a pair ``video/...`` and ``metas/...`` the video tar stands for both.

    Raises:
        MissingFileError: nothing is there, or it holds no tar.
    """
    name = os.fspath(location)
    filesystem, path = fsspec.core.url_to_fs(name)
    if not filesystem.exists(path):
        raise MissingFileError(
            f"There is no file or folder '{name}'. Name a shard, or a folder with shards that "
            "'nemo-cosmos curate' or 'nemo-cosmos tokenize' wrote."
        )
    if filesystem.isfile(path):
        return [name]
    found = [
        filesystem.unstrip_protocol(entry) if is_url(name) else entry
        for entry in sorted(filesystem.find(path))
        if entry.endswith(".tar") and not _is_leftover(entry)
    ]
    shards = [entry for entry in found if f"/{METAS}/part_" not in entry]
    if not shards:
        raise MissingFileError(
            f"The folder '{name}' holds no shard (a file that ends in .tar). Name a folder that "
            "'nemo-cosmos curate' or 'nemo-cosmos tokenize' wrote; if this is one, every clip was "
            "rejected, and its report says why."
        )
    return shards


def read_shard(shard: str | os.PathLike[str], required: Iterable[str] = ("json",)) -> list[Sample]:
    """Index one shard.

    Args:
        shard: a tar, as :func:`list_shards` gives it.
        required: suffixes that every sample must have.

    Returns:
        Its samples, in order.

    Raises:
        SampleError: a tar is truncated or damaged, or a sample lacks a file; names both.
    """
    name = os.fspath(shard)
    tars = [name]
    if f"/{VIDEO}/part_" in name:
        tars.append(name.replace(f"/{VIDEO}/part_", f"/{METAS}/part_"))
    grouped: dict[str, dict[str, Member]] = {}
    for tar in tars:
        for member in index_tar(tar):
            key, _, suffix = member.name.rpartition("/")[2].partition(".")
            grouped.setdefault(key, {})[suffix] = member
    samples = [Sample(key, name, members) for key, members in grouped.items()]
    for sample in samples:
        absent = [suffix for suffix in required if suffix not in sample.members]
        if absent:
            raise SampleError(
                f"{sample.where} has no {' and no '.join(repr(suffix) for suffix in absent)} (it "
                f"has: {', '.join(sorted(sample.members))}). "
                f"{_REMEDIES.get(absent[0], 'Write the shard again.')}"
            )
    return samples


def read_samples(
    location: str | os.PathLike[str], required: Iterable[str] = ("json",)
) -> list[Sample]:
    """Index every shard below a location; see :func:`list_shards` and :func:`read_shard`."""
    wanted = tuple(required)
    return [sample for shard in list_shards(location) for sample in read_shard(shard, wanted)]


def _is_leftover(path: str) -> bool:
    """Whether a killed process left it behind; see :func:`nemo_cosmos.storage.atomic_path`."""
    return any(piece.startswith(".tmp-") for piece in path.split("/"))


def _next_part(folder: Path) -> int:
    parts = [
        int(path.name.removeprefix("part_"))
        for kind in (".", VIDEO, METAS)
        for path in (folder / kind).glob("part_[0-9]*")
    ]
    return max(parts, default=-1) + 1


def _write_wdinfo(root: Path, folder: str) -> None:
    """Describe one bin as cosmos-curate does."""
    tars = sorted((root / folder / VIDEO).glob("part_*/*.tar"))
    keys = sum(len({member.name.partition(".")[0] for member in index_tar(tar)}) for tar in tars)
    info = {
        "data_keys": [VIDEO, METAS],
        "chunk_size": SHARDS_PER_PART,
        "data_list": [tar.relative_to(root / folder / VIDEO).as_posix() for tar in tars],
        "root": folder,
        "total_key_count": keys,
    }
    with atomic_path(root / folder / "wdinfo.json") as temporary:
        temporary.write_text(json.dumps(info, indent=1) + "\n")
