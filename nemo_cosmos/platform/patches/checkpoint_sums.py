"""Checksums of what Megatron-Core's writers write, taken from the bytes on their way to the disk.

Each file of tensors is summed by the process that writes it, which may be a child in the background
of training; nothing is read again. The sum travels with the results of the write to the rank that
completes the checkpoint, which writes all of them into one file.
"""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import Metadata
    from torch.distributed.checkpoint.storage import WriteResult

SUMS_FILE = "checksums.json"
WEIGHTS_FOLDER = "weights"
CHUNK_BYTES = 2**22
_ATTRIBUTE = "nemo_cosmos_sum"
"""Of a result: the size and the CRC-32 of its file up to there."""


def patch_checkpoint_sums() -> None:
    """Sum what is written. Imports Megatron-Core."""
    from megatron.core.dist_checkpointing.strategies import filesystem_async

    module: Any = filesystem_async
    write_item = module._write_item
    writer: Any = module.FileSystemWriterAsync
    finish = writer.finish

    @functools.wraps(write_item)
    def write_and_sum(*args: Any, **kwargs: Any) -> WriteResult:
        result: WriteResult = write_item(*args, **kwargs)
        stream = next(one for one in args if isinstance(one, SummedFile))
        object.__setattr__(result, _ATTRIBUTE, (stream.size, stream.crc))  # a frozen dataclass
        return result

    @functools.wraps(finish)
    def finish_and_sum(self: Any, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        finish(self, metadata, results)
        if not self.use_msc:
            write_sums(Path(self.checkpoint_dir), (one for part in results for one in part))

    module.open = SummedFile  # the module's writers find it before the builtin
    module._write_item = write_and_sum
    writer.finish = finish_and_sum


class SummedFile:
    """A new file that sums what is written into it, from its beginning to its end.

    Args:
        path: the file.
        mode: as ``open``; only a file that is written anew can be summed.
    """

    def __init__(self, path: str | os.PathLike[str], mode: str) -> None:
        if mode != "wb":
            raise ValueError(f"a file of mode '{mode}' is not summed from its beginning")
        self.size, self.crc = 0, 0
        self._file: BinaryIO = Path(path).open("wb")  # noqa: SIM115  closed by __exit__

    def write(self, data: bytes) -> int:
        """Write and sum."""
        self.crc = zlib.crc32(data, self.crc)
        written = self._file.write(data)
        self.size += written
        return written

    def tell(self) -> int:
        """The place in the file."""
        return self._file.tell()

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self._file.flush()

    def fileno(self) -> int:
        """The file's descriptor; what is buffered is handed over first."""
        self._file.flush()
        return self._file.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def write_sums(weights: Path, results: Iterable[WriteResult]) -> None:
    """Write the checksums of a checkpoint's files, all at once.

    Args:
        weights: the folder of its tensors.
        results: what all ranks wrote; the sums of the other files, which are small, are taken here.
    """
    sums: dict[str, tuple[int, int]] = {}
    for result in results:
        name = result.storage_data.relative_path
        sums[name] = max(sums.get(name, (0, 0)), getattr(result, _ATTRIBUTE, (0, 0)))
    folders = [weights] + ([weights.parent] if weights.name == WEIGHTS_FOLDER else [])
    for file in (file for folder in folders for file in folder.iterdir() if file.is_file()):
        name = os.path.relpath(file, weights)
        # A result without a sum comes from a writer that this module did not reach.
        if file.suffix != ".distcp" or sums.get(name, (0, 0)) == (0, 0):
            sums[name] = file_sum(file)
    content = {"files": dict(sorted(sums.items())), "sum": table_sum(sums)}
    # Not by storage's writer: storage stands beside this room.
    temporary = weights / f".tmp-{SUMS_FILE}"
    with temporary.open("w", encoding="utf-8") as handle:
        handle.write(json.dumps(content, indent=1) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(weights / SUMS_FILE)


def file_sum(file: Path) -> tuple[int, int]:
    """Size and CRC-32 of a file."""
    size, crc = 0, 0
    with file.open("rb") as handle:
        while chunk := handle.read(CHUNK_BYTES):
            crc = zlib.crc32(chunk, crc)
            size += len(chunk)
    return size, crc


def table_sum(sums: Mapping[str, tuple[int, int]]) -> int:
    """The checksum of checksums."""
    text = "\n".join(f"{name} {size} {crc}" for name, (size, crc) in sorted(sums.items()))
    return zlib.crc32(text.encode())
