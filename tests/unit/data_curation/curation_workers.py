"""What programs and spawned workers of the tests import by name: work, stages, the command."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from data_curation import OPTIONAL_STAGES, CurateSettings, SplitSettings
from data_curation.clip import Clip, Resources, Result
from data_curation.stages.base import ClipStage, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.errors import ConfigError, StorageFullError

SETTINGS = CurateSettings(split=SplitSettings(min_clip_s=1.0), skip=OPTIONAL_STAGES)


def tree(folder: Path) -> dict[str, str]:
    """Checksums of everything that a run promises to make the same again."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in sorted(names.items())
        if name not in ("metrics.jsonl", "timings.html") and not name.startswith(".work/")
    }


class Step(NamedTuple):
    """One stage of work on numbers."""

    name: str
    resources: Resources = Resources()


def curate_command(raw: Path, output: Path, *more: str) -> tuple[int, str, str]:
    """``nemo-cosmos curate`` in this process: exit code, standard output and error.

    The catalogue lies beside the output folder.
    """
    from nemo_cosmos.cli.main import main

    words = ["curate", str(raw), str(output), "--min-clip-s", "1", "--executor", "inline", "--json"]
    words += ["--name", "films", "--catalogue", str(output.parent / "catalogue.db")]
    if "--skip" not in more:
        words += ["--skip", "camera,visual_quality,text_overlay", "--min-cosine", "0.999"]
    words += more  # the last one of an option counts
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


class Squares:
    """Work on numbers; some of which are poison."""

    stages = (Step("square"),)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.on_stage = print

    def check_place(self, item: int) -> None:
        if not self.folder.is_dir():
            raise ConfigError(f"'{self.folder}' is not here")

    def begin(self, item: int) -> tuple[int, str]:
        return item, "begun"

    def is_finished(self, outcome: tuple[int, str]) -> bool:
        return False

    def advance(self, outcome: tuple[int, str], first: int, stop: int) -> tuple[int, str]:
        return self(outcome[0])

    def finish(self, item: int, outcome: tuple[int, str]) -> tuple[int, str]:
        return outcome

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


class Place(NamedTuple):
    """Where one stage of one item ran."""

    node: str
    pid: int
    gpus: str


class Places(Squares):
    """Work that remembers where it ran; counts, in the driver, how much is under way."""

    stages = (
        Step("look", Resources(cpus=1.0, memory_gb=2.0)),
        Step("embed", Resources(cpus=1.0, gpus=1.0)),
        Step("write", Resources(cpus=2.0, memory_gb=1.0)),
    )
    num_under_way = most_under_way = 0

    def begin(self, item: int) -> tuple[int, list[Place]]:
        self.num_under_way += 1
        self.most_under_way = max(self.most_under_way, self.num_under_way)
        return item, []

    def advance(
        self, outcome: tuple[int, list[Place]], first: int, stop: int
    ) -> tuple[int, list[Place]]:
        import ray

        item, places = outcome
        node = ray.get_runtime_context().get_node_id()
        if first == 0:  # both nodes are there before anything goes on
            (self.folder / node).touch()
            _wait_until(lambda: len(list(self.folder.iterdir())) == 2)
        place = Place(node, os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"])
        return item, [*places, place]

    def finish(self, item: int, outcome: tuple[int, list[Place]]) -> tuple[int, list[Place]]:
        self.num_under_way -= 1
        return outcome


@dataclass(frozen=True)
class HoldSettings(StageSettings):
    after = "words"

    def build(self, store: ClipStore) -> Stage:
        return HoldStage()


class HoldStage(ClipStage):
    """Hangs on the node that the file ``hold`` names; all others wait until it does."""

    name = "hold"

    def process(self, clip: Clip) -> Result:
        # Beside the folder of sources, all of whose files are counted.
        folder = Path(str(clip.source).removesuffix(clip.name)).parent
        if (folder / "hold").exists():
            import ray

            if ray.get_runtime_context().get_node_id() == (folder / "hold").read_text():
                (folder / "reached").touch()
                time.sleep(60)
            _wait_until((folder / "reached").exists)
        return clip


HELD = replace(SETTINGS, added={"hold": HoldSettings()})


def _wait_until(true: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 30
    while not true():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


@dataclass(frozen=True)
class PoisonSettings(StageSettings):
    after = "words"

    def build(self, store: ClipStore) -> Stage:
        return PoisonStage()


class PoisonStage(ClipStage):
    name = "poison"

    def process(self, clip: Clip) -> Result:
        if "robot" in clip.name:
            os.kill(os.getpid(), signal.SIGSEGV)
        return clip


POISONED = replace(SETTINGS, added={"poison": PoisonSettings()})
