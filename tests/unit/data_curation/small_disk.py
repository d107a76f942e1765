"""Curates on disks that are too small, then makes room; a program of its own (see test_survive).

It runs in a mount namespace of its own, where it may mount a tmpfs. Arguments: the input, a folder
with the output of an earlier run and the catalogue, the output of an undisturbed run, the folder to
mount on, and the KiB that are free beside the earlier output. For each it prints one JSON line.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from curation_workers import curate_command, tree

_LARGE_KB = 100 << 10


def resize(disk: Path, size_kb: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size_kb}k", disk], check=True)


def fill(raw: Path, earlier: Path, straight: Path, disk: Path, free_kb: int) -> dict[str, object]:
    """What became of a run on a small disk, and of the same command when there was room."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_LARGE_KB}k", "none", disk], check=True)
    try:
        shutil.copytree(earlier, disk, dirs_exist_ok=True)
        used_kb = _LARGE_KB - shutil.disk_usage(disk).free // 1024
        resize(disk, used_kb + free_kb)
        code, _, message = curate_command(raw, disk / "out")
        intact = is_intact(tree(disk / "out"), tree(earlier / "out"), tree(straight))
        resize(disk, _LARGE_KB)
        again, _, _ = curate_command(raw, disk / "out")
        same = again == 0 and tree(disk / "out") == tree(straight)
        return {"code": code, "message": message, "intact": intact, "same": same}
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)  # shards are still mapped


def is_intact(found: dict[str, str], old: dict[str, str], new: dict[str, str]) -> bool:
    """Whether every file is that of the earlier run, or that of the finished one."""
    return found.keys() >= old.keys() and all(
        checksum in (old.get(name), new.get(name)) for name, checksum in found.items()
    )


if __name__ == "__main__":
    folders = [Path(word) for word in sys.argv[1:5]]
    for word in sys.argv[5:]:
        print(json.dumps(fill(*folders, int(word))), flush=True)
