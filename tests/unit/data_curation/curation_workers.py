"""Work and stages that spawned workers of the tests import by name."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from data_curation import OPTIONAL_STAGES, CurateSettings, SplitSettings
from data_curation.stages.base import Clip, Result, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.errors import StorageFullError

SETTINGS = CurateSettings(split=SplitSettings(min_clip_s=1.0), skip=OPTIONAL_STAGES)


def tree(folder: Path) -> dict[str, str]:
    """Checksums of everything that a run promises to make the same again."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in sorted(names.items())
        if name != "metrics.jsonl" and not name.startswith(".work/")
    }


class Squares:
    """Work on numbers; some of which are poison."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.on_stage = print

    def __call__(self, item: int) -> tuple[int, str]:
        self.on_stage("square")
        with (self.folder / str(item)).open("a") as handle:
            handle.write("x")
        num_tries = len((self.folder / str(item)).read_text())
        if item == 13 or (item == 5 and num_tries < 3):
            os.kill(os.getpid(), signal.SIGKILL)
        if item == 20:
            self.taken = bytearray(600 * 2**20)
            time.sleep(30)
        if item == 30:
            raise StorageFullError("No space left")
        return item * item, "done"

    def give_up(self, item: int, stage: str, detail: str) -> tuple[int, str]:
        return item, f"{stage}: {detail}"


class Unable(Squares):
    """Work that no process can even load."""

    def __setstate__(self, state: dict) -> None:
        os._exit(3)


@dataclass(frozen=True)
class PoisonSettings(StageSettings):
    def build(self, store: ClipStore) -> Stage:
        return PoisonStage()


class PoisonStage(Stage):
    name = "poison"

    def process(self, clip: Clip) -> Result:
        if "robot" in clip.name:
            os.kill(os.getpid(), signal.SIGSEGV)
        return clip


@dataclass(frozen=True)
class PoisonedSettings(CurateSettings):
    poison: PoisonSettings = field(default_factory=PoisonSettings)
