"""The tars of one shard number while they are being written."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nemo_cosmos.data.shards.layout import TEXT_SUFFIX
from nemo_cosmos.data.shards.tar import Member, add_member, index_tar
from nemo_cosmos.storage import atomic_path

VIDEO, METAS, TEXT = "video", "metas", "t5_xxl"


class OpenShard:
    """One tar, or those below ``video/``, ``metas/`` and ``t5_xxl/``; whole when finished.

    Args:
        tars: path of each tar by kind: :data:`VIDEO`, :data:`METAS` and, with text embeddings,
            :data:`TEXT`; or ``""`` for a single tar.
    """

    def __init__(self, tars: Mapping[str, Path]) -> None:
        self.size_bytes = 0
        self._tars = tars
        self._stack = ExitStack()
        self._archives: dict[str, tarfile.TarFile] = {}
        with self._discarding():
            # The first one entered is renamed last: the video tar marks the shard as complete.
            for kind, path in tars.items():
                temporary = self._stack.enter_context(atomic_path(path))
                archive = tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
                self._archives[kind] = archive
                self._stack.callback(archive.close)

    def add(self, key: str, contents: Mapping[str, bytes]) -> None:
        """Append the files of one sample, in alphabetical order."""
        with self._discarding():
            for suffix, content in sorted(contents.items()):
                archive = self._archives[self._kind(suffix)]
                add_member(archive, f"{key}.{suffix}", content)
                self.size_bytes += len(content)

    def _kind(self, suffix: str) -> str:
        if "" in self._archives:
            return ""
        is_video = suffix.rpartition(".")[2] == "mp4"  # of further views, too
        wanted = VIDEO if is_video else {TEXT_SUFFIX: TEXT}.get(suffix, METAS)
        return wanted if wanted in self._archives else METAS

    def finish(self) -> None:
        """Move the tars to their places and write their indexes."""
        with self._discarding():
            self._stack.close()
        for path in self._tars.values():
            with atomic_path(path.with_suffix(".idx")) as temporary:
                temporary.write_text(dali_index(index_tar(path)), encoding="utf-8")

    def discard(self, error: BaseException) -> None:
        """Remove what was not finished."""
        self._stack.__exit__(type(error), error, error.__traceback__)

    @contextmanager
    def _discarding(self) -> Iterator[None]:
        """Remove the unfinished tars on an error, which atomic_path may translate."""
        try:
            yield
        except BaseException as error:
            self.discard(error)
            raise


def dali_index(members: Iterable[Member]) -> str:
    """Return the index of DALI's ``wds2idx`` (v1.2): suffix, offset, size and name of files."""
    lines: dict[str, list[str]] = {}
    for member in members:
        key, _, suffix = member.name.partition(".")
        entry = f"{suffix} {member.offset} {member.size_bytes} {member.name}"
        lines.setdefault(key, []).append(entry)
    return "\n".join([f"v1.2 {len(lines)}", *(" ".join(line) for line in lines.values())]) + "\n"
