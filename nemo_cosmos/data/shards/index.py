"""The index of a shard: where each file of each sample begins, and what shape each sample has.

It is built once, kept beside the tar as ``000000.tar.index`` (safetensors, so that reading it can
run no code), and is valid for the tars whose size and time of writing it records. If the folder
cannot be written to, each process builds its own. The index holds the sizes of clips and latents,
so that a data set is sorted into buckets and packed without reading its samples.

Shape suffixes: N samples, S kinds of files.
"""

from __future__ import annotations

import json
import logging
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import IO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nemo_cosmos.aliases import Array, JsonObject
from nemo_cosmos.batch import DEFAULT_VIEWS, Views
from nemo_cosmos.data.loading.latents import CODES_SUFFIX, LATENT_SUFFIX
from nemo_cosmos.data.schema import views_of
from nemo_cosmos.data.shards.cosmos_curate import own_fields
from nemo_cosmos.data.shards.open_shard import METAS, TEXT, VIDEO
from nemo_cosmos.data.shards.tar import Member, walk_tar
from nemo_cosmos.errors import InputError, MissingFileError, SampleError, StorageFullError
from nemo_cosmos.storage import (
    FileStamp,
    filesystem_of,
    open_url,
    read_ranges,
    stamp_of,
    write_bytes,
)

logger = logging.getLogger(__name__)

INDEX_SUFFIX = ".index"
_FORMAT, _VERSION = "nemo_cosmos.index", 2
_ABSENT = -1


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """What one shard holds.

    Attributes:
        shard: path or URL of the shard's tar; of its video tar if it has several.
        tars: all its tars.
        stamps: the tars' versions.
        columns: number of the tar and suffix, for each kind of file.
        keys: names of the samples, in order.
        offset_NS: first byte of each file, int64; -1 if a sample has no file of the kind.
        size_NS: length of each file in bytes, int64.
        shape_N3: pixel frames, height and width from the samples' JSON, int32; zeros without one.
        latent_N4: shapes of the latents, or of codes as of one channel, int32; zeros without.
        views: names of the cameras, the same for all samples of a shard.
    """

    shard: str
    tars: tuple[str, ...]
    stamps: tuple[FileStamp, ...]
    columns: tuple[tuple[int, str], ...]
    keys: list[str]
    offset_NS: NDArray[np.int64]
    size_NS: NDArray[np.int64]
    shape_N3: NDArray[np.int32]
    latent_N4: NDArray[np.int32]
    views: Views = DEFAULT_VIEWS

    def __len__(self) -> int:
        return len(self.keys)

    def members(self, row: int) -> dict[str, Member]:
        """Return the files of a sample by suffix."""
        key = self.keys[row]
        return {
            suffix: Member(self.tars[tar], f"{key}.{suffix}", offset, size)
            for (tar, suffix), offset, size in zip(
                self.columns, self.offset_NS[row].tolist(), self.size_NS[row].tolist(), strict=True
            )
            if offset != _ABSENT
        }

    def read(self, row: int, suffixes: Sequence[str]) -> list[bytes]:
        """Return the contents of files of a sample, with one read for each tar.

        Raises:
            KeyError: the sample has no such file.
            MissingFileError: a tar is gone, or has been replaced.
            SampleError: a tar was truncated.
        """
        offsets, sizes = self.offset_NS[row].tolist(), self.size_NS[row].tolist()
        columns = [self._column_of[suffix] for suffix in suffixes]
        found: dict[int, bytes] = {}
        for number, tar in enumerate(self.tars):
            mine = [column for column in columns if self.columns[column][0] == number]
            if any(offsets[column] == _ABSENT for column in mine):
                raise KeyError(suffixes)
            if mine:
                ranges = [(offsets[column], sizes[column]) for column in mine]
                found.update(zip(mine, read_ranges(tar, self.stamps[number], ranges), strict=True))
        for column in columns:
            if len(found[column]) != sizes[column]:
                which, suffix = self.columns[column]
                raise SampleError(
                    f"'{self.tars[which]}' ends inside '{self.keys[row]}.{suffix}': it was "
                    "truncated after it was opened. Copy or write the shard again."
                )
        return [found[column] for column in columns]

    def row_without(self, suffix: str) -> int | None:
        """Return the row of the first sample that lacks a kind of file; None if none does."""
        column = self._column_of.get(suffix)
        if column is None:
            return 0 if self.keys else None
        rows = np.flatnonzero(self.offset_NS[:, column] == _ABSENT)
        return int(rows[0]) if len(rows) else None

    @cached_property
    def _column_of(self) -> dict[str, int]:
        return {suffix: column for column, (_, suffix) in enumerate(self.columns)}


def tars_of(shard: str) -> tuple[str, ...]:
    """Return the tars of a shard: a curated ``video/part_...`` has a twin below ``metas/``.

    With text embeddings, it has another one below ``t5_xxl/``.
    """
    mark = f"/{VIDEO}/part_"
    if mark not in shard:
        return (shard,)
    metas, text = (shard.replace(mark, f"/{kind}/part_") for kind in (METAS, TEXT))
    filesystem, path = filesystem_of(text)
    return (shard, metas, text) if filesystem.exists(path) else (shard, metas)


def load_index(shard: str | os.PathLike[str], *, keep: bool = True) -> ShardIndex:
    """Return the index of a shard; it is built unless a valid one exists.

    Args:
        shard: its tar, or the video tar of a pair.
        keep: whether to write a new one beside the tar for the next time.

    Raises:
        MissingFileError: a tar is gone.
        SampleError: a tar is truncated or damaged.
    """
    name = os.fspath(shard)
    stamps = tuple(stamp_of(tar) for tar in tars_of(name))
    index = stored_index(name)
    if index is None or index.stamps != stamps:
        index = _build(name, stamps)
        if keep:
            _store(index)
    return index


def stored_index(shard: str) -> ShardIndex | None:
    """Return the index that lies beside a shard, valid or not; None if there is none."""
    location = shard + INDEX_SUFFIX
    try:
        with open_url(location) as handle:
            arrays = load(handle.read())
        head = json.loads(arrays["head"].tobytes())
        if (head["format"], head["version"]) != (_FORMAT, _VERSION):
            return None
        return ShardIndex(
            shard=shard,
            tars=tars_of(shard),
            stamps=tuple(FileStamp(*stamp) for stamp in head["stamps"]),
            columns=tuple((int(tar), str(suffix)) for tar, suffix in head["columns"]),
            keys=arrays["keys"].tobytes().decode().split("\n")[:-1],
            offset_NS=arrays["offset_NS"],
            size_NS=arrays["size_NS"],
            shape_N3=arrays["shape_N3"],
            latent_N4=arrays["latent_N4"],
            views=tuple(head.get("views", DEFAULT_VIEWS)),
        )
    except MissingFileError:
        return None
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        logger.warning("'%s' is damaged and is built again: %s", location, error)
        return None


def _store(index: ShardIndex) -> None:
    head: JsonObject = {
        "format": _FORMAT,
        "version": _VERSION,
        "stamps": index.stamps,
        "columns": index.columns,
    }
    if index.views != DEFAULT_VIEWS:
        head["views"] = index.views
    arrays: dict[str, Array] = {
        "head": np.frombuffer(json.dumps(head).encode(), np.uint8),
        "keys": np.frombuffer("".join(f"{key}\n" for key in index.keys).encode(), np.uint8),
        "offset_NS": index.offset_NS,
        "size_NS": index.size_NS,
        "shape_N3": index.shape_N3,
        "latent_N4": index.latent_N4,
    }
    try:
        write_bytes(index.shard + INDEX_SUFFIX, save(arrays))
    except (OSError, StorageFullError, InputError, NotImplementedError) as error:
        logger.info("No index is kept beside '%s', which costs time: %s", index.shard, error)


def _build(shard: str, stamps: tuple[FileStamp, ...]) -> ShardIndex:
    """Walk the tars once, reading only headers, the JSON and the first bytes of latents."""
    rows: dict[str, dict[tuple[int, str], Member]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    latents: dict[str, tuple[int, ...]] = {}
    views: dict[str, Views] = {}
    for number, tar in enumerate(tars_of(shard)):
        with open_url(tar) as handle:
            for member in walk_tar(handle, tar):
                key, _, suffix = PurePath(member.name).name.partition(".")
                row = rows.setdefault(key, {})
                if (number, suffix) in row:
                    raise SampleError(
                        f"'{tar}' holds '{member.name}' twice, so it is unclear which one counts. "
                        "Write the shard again with each file once."
                    )
                row[number, suffix] = member
                if suffix == "json":
                    shapes[key], views[key] = _clip_shape(handle, member)
                elif suffix in (LATENT_SUFFIX, CODES_SUFFIX):
                    latents[key] = _latent_shape(handle, member)
    columns = tuple(sorted({column for row in rows.values() for column in row}))
    places = [[row.get(column) for column in columns] for row in rows.values()]

    def table(field: str) -> NDArray[np.int64]:
        values = [
            [_ABSENT if member is None else getattr(member, field) for member in row]
            for row in places
        ]
        return np.array(values, np.int64).reshape(len(rows), len(columns))

    return ShardIndex(
        shard=shard,
        tars=tars_of(shard),
        stamps=stamps,
        columns=columns,
        keys=list(rows),
        offset_NS=table("offset"),
        size_NS=table("size_bytes"),
        shape_N3=_shape_table(rows, shapes, 3),
        latent_N4=_shape_table(rows, latents, 4),
        views=_common_views(shard, views),
    )


def _common_views(shard: str, views: Mapping[str, Views]) -> Views:
    """The views that all samples of a shard have."""
    distinct = {each: key for key, each in views.items()}
    if len(distinct) > 1:
        listed = "; ".join(f"{list(each)} of '{key}'" for each, key in distinct.items())
        raise SampleError(
            f"The samples of '{shard}' have different views: {listed}. Write samples of one set of "
            "cameras into a shard."
        )
    return next(iter(distinct), DEFAULT_VIEWS)


def _shape_table(
    keys: JsonObject, shapes: dict[str, tuple[int, ...]], num_dims: int
) -> NDArray[np.int32]:
    nothing = (0,) * num_dims
    values = [shapes.get(key, nothing) for key in keys]
    return np.array(values, np.int32).reshape(len(keys), num_dims)


def _clip_shape(handle: IO[bytes], member: Member) -> tuple[tuple[int, ...], Views]:
    """Frames, height and width, and the views; zeros where the JSON is wrong.

    Reading the sample reports what is wrong.
    """
    handle.seek(member.offset)
    try:
        record = own_fields(json.loads(handle.read(member.size_bytes)))
        shape = tuple(int(record[name]) for name in ("num_frames", "height", "width"))
        return shape, views_of(record)
    except (ValueError, KeyError, TypeError, OverflowError):
        return (0, 0, 0), DEFAULT_VIEWS


def _latent_shape(handle: IO[bytes], member: Member) -> tuple[int, ...]:
    """Shape of a latent, or of codes as if of one channel, by the head of its safetensors.

    Zeros where it is neither.
    """
    handle.seek(member.offset)
    try:
        (length,) = struct.unpack("<Q", handle.read(8))
        head = json.loads(handle.read(min(length, member.size_bytes)))
        if "codes" in head:
            shape = (1, *map(int, head["codes"]["shape"]))
        else:
            shape = tuple(map(int, head["latent"]["shape"]))
    except (ValueError, KeyError, TypeError, struct.error):
        return (0, 0, 0, 0)
    return shape if len(shape) == 4 else (0, 0, 0, 0)
