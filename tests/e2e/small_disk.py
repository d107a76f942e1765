"""Every command that writes, on disks that are too small, then with room; a program of its own.

Where it runs in a mount namespace of its own (see test_small_disk), the disk is a tmpfs; elsewhere,
files may not grow beyond a size. Arguments: a folder for the material, the folder to write to, and
"tmpfs" or "limit". For each command and size it prints one JSON line.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nemo_cosmos.cli.main import main as nemo_cosmos
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.writer import CuratedWriter
from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE
from nemo_cosmos.testing.tiny import tiny_tokenizer, write_world
from nemo_cosmos.video import Video, encode_video

LARGE_KB = 200 << 10
#: Parts of what a command writes that are free on the disk.
SHARES = (0.0, 0.6)


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes:
        words: its line, for the folder on the small disk.
        outputs: what it promises to be the same again, below that folder.
        shares: parts of what it writes that are free.
    """

    words: Callable[[Path], list[str]]
    outputs: Callable[[Path], object]
    shares: tuple[float, ...] = SHARES


def run(words: list[str]) -> tuple[int, str]:
    """The command's exit code, and what it says of an error."""
    code, problem = 0, ""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                nemo_cosmos(words)
            except SystemExit as stop:
                code = int(stop.code or 0)
            except BaseException as error:  # noqa: BLE001  a traceback on a terminal
                code, problem = 1, f"Traceback: {type(error).__name__}: {error}"
        said.seek(0)
        lines = [line.strip() for line in said if line.startswith("Error")]
    return code, problem or " ".join(lines)


def digests(folder: Path, pattern: str) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.glob(pattern))
    }


def frames_of(file: Path) -> object:
    return json.loads(file.read_text(encoding="utf-8"))["video"]["frames_sha256"]


def commands(material: Path) -> dict[str, Command]:
    """The commands, after their material is made."""
    clips = material / "clips"
    random = np.random.default_rng(0)
    with CuratedWriter(material / "shards") as writer:
        for number in range(4):
            small_THWC = random.integers(0, 256, (12, 4, 6, 3), dtype=np.uint8)
            frames_THWC = small_THWC.repeat(12, axis=1).repeat(12, axis=2)
            encode_video(clips / f"{number}.mp4", Video(frames_THWC, 12.0), crf=10)
            record = ClipRecord(
                key=f"clip-{number}", source="film.mp4", span_s=(0, 1), fps=12, num_frames=12,
                width=72, height=48, caption="blocks of colour flicker",
            )  # fmt: skip
            writer.add(record, {"mp4": (clips / f"{number}.mp4").read_bytes()})
    tiny_tokenizer().save(material / "tokenizer")
    write_world(
        material / "world", condition_mask=False, crossattn_emb_channels=512,
        text_encoder={"kind": "embedded", "path": None, "max_length": 8, "dim": 512},
    )  # fmt: skip
    tokenize = ["--tokenizer", str(material / "tokenizer"), "--window-frames", "5"]
    tokenize += ["--size", "32x48", "--window-stride", "4"]
    run(["tokenize", str(material / "shards"), str(material / "latents"), *tokenize])
    generate = ["generate", str(material / "world"), "-p", "a robot arm moves", "--steps", "2"]
    generate += ["--seed", "1", "--disable-guard", "text_classifier"]
    train = ["pretrain", "--factory", "diffusion_nano_text2world"]
    train += [f"data.path={material / 'latents'}", "trainer.max_steps=4", "log.name=run"]
    train += ["log.ckpt.train_time_interval_s=null", "log.ckpt.every_n_train_steps=2"]
    train += ["model.config.num_layers=1"]
    train += ["data.global_batch_size=2", "data.micro_batch_size=2"]
    return {
        "tokenize": Command(
            lambda disk: ["tokenize", str(material / "shards"), str(disk / "out"), *tokenize],
            lambda disk: digests(disk / "out", "**/*.tar"),
        ),
        "generate": Command(
            lambda disk: [*generate, "--out", str(disk / "world.mp4")],
            lambda disk: frames_of(disk / "world.json"),
        ),
        "evaluate": Command(
            lambda disk: ["evaluate", str(clips), str(clips), "--out", str(disk / "evaluation")],
            lambda disk: digests(disk / "evaluation", "curves.json"),
        ),
        "pretrain": Command(
            lambda disk: [*train, f"log.log_dir={disk}"],
            lambda disk: digests(disk / "run" / "export", "model.safetensors"),
            (0.1, 0.8),
        ),
    }


class Tmpfs:
    """A small file system of its own."""

    def __init__(self, disk: Path) -> None:
        self.disk = disk

    def __enter__(self) -> Tmpfs:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={LARGE_KB}k", "none", self.disk], check=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self.disk], check=True)  # files may still be mapped

    def written_kb(self) -> int:
        return LARGE_KB - shutil.disk_usage(self.disk).free // 1024

    def leave_kb(self, size_kb: int | None) -> None:
        size_kb = LARGE_KB if size_kb is None else self.written_kb() + size_kb
        subprocess.run(["mount", "-o", f"remount,size={size_kb}k", self.disk], check=True)


class Limit:
    """A folder in which no file may grow beyond a size."""

    def __init__(self, disk: Path) -> None:
        self.disk = disk

    def __enter__(self) -> Limit:
        self.disk.mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.disk)

    def written_kb(self) -> int:
        sizes = [path.stat().st_size for path in self.disk.rglob("*") if path.is_file()]
        return max(sizes) // 1024

    def leave_kb(self, size_kb: int | None) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = most if size_kb is None else size_kb * 1024
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))


def main(material: Path, disk: Path, place: type[Tmpfs] | type[Limit]) -> None:
    for name, command in commands(material).items():
        with place(disk) as room:
            code, message = run(command.words(disk))
            assert code == 0, (name, message)
            wanted, num_kb = command.outputs(disk), room.written_kb()
        for share in command.shares:
            with place(disk) as room:
                (disk / "keep").write_bytes(b"before")
                # A log of its own, which is smaller than any limit.
                os.environ[AUDIT_VARIABLE] = str(material / f"{name}-{share}.jsonl")
                room.leave_kb(max(4, int(share * num_kb)))
                code, message = run(command.words(disk))
                kept = (disk / "keep").read_bytes() == b"before"
                room.leave_kb(None)
                again, why = run(command.words(disk))
                same = again == 0 and command.outputs(disk) == wanted
                left = [str(path.relative_to(disk)) for path in disk.rglob(".tmp-*")]
            end = {"command": name, "share": share, "code": code, "message": message}
            end |= {"kept": kept, "again": again, "why": why, "same": same, "left": left}
            print(json.dumps(end), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), {"tmpfs": Tmpfs, "limit": Limit}[sys.argv[3]])
