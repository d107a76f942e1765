"""Vectors in a file, read in parts, so that memory stays bounded whatever their number."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array
from nemo_cosmos.errors import SampleError
from nemo_cosmos.storage import atomic_path

Rows = NDArray[np.int64] | slice


class VectorFile:
    """An ``.npy`` of float16 or float32 ``(N, D)``, mapped and not loaded.

    Use it as a context manager, or leave it to the end of the process.

    Args:
        path: the file.

    Raises:
        SampleError: it holds something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise SampleError(
                f"'{os.fspath(path)}' is not an array of vectors: {error}. Write it again."
            ) from error
        if array.ndim != 2 or array.dtype.kind != "f":
            raise SampleError(
                f"'{os.fspath(path)}' holds {array.dtype} of shape {array.shape}; expected "
                "floating-point vectors (N, D). Write it again."
            )
        self._array = array

    def __len__(self) -> int:
        return int(self._array.shape[0])

    @property
    def dim(self) -> int:
        """Channels D."""
        return int(self._array.shape[1])

    def read(self, rows: Rows) -> NDArray[np.float32]:
        """Copy some rows as float32 ``(R, D)``; their pages are released at once."""
        part = np.asarray(self._array[rows], dtype=np.float32)
        if isinstance(self._array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self._array.base.madvise(mmap.MADV_DONTNEED)
        return part

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del self._array


def write_vectors(path: Path, blocks: Iterable[NDArray[np.float16]], count: int, dim: int) -> None:
    """Write an ``.npy`` of float16 ``(count, dim)`` from blocks of rows, whole or not at all."""
    with atomic_path(path) as temporary, rows_written(temporary, (count, dim), "<f2") as write:
        for block in blocks:
            write(block)


@contextmanager
def rows_written(
    path: Path, shape: tuple[int, ...], dtype: str
) -> Iterator[Callable[[Array], object]]:
    """Write an ``.npy`` of known shape; yields what appends a block of rows to it.

    Nothing is mapped: a process that writes to a map on a full disk is killed.
    """
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    with path.open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        yield lambda block: handle.write(np.ascontiguousarray(block, dtype=dtype).tobytes())
