"""Every Python block of README and docs runs as it is written, with nano models for large ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import recipes.diffusion  # noqa: F401 - NeMo does not import while standard output is captured
from data_curation import OPTIONAL_STAGES, CurateSettings, SplitSettings, curate
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.errors import Cancelled
from nemo_cosmos.evaluation import evaluate_pair
from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.site import SITE_VARIABLE
from nemo_cosmos.testing.tiny import Clips, write_latents, write_world
from nemo_cosmos.video import Video, decode, encode_video
from tests.parity.test_ar_checkpoints import GRID, build

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_PYTHON = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]
TEXT_DIM, TEXT_LENGTH = 512, 32  # of the embedded encoder and the nano recipes
Names = dict[str, Any]


class Page:
    """The blocks of a page, run one after the other in one namespace.

    Args:
        path: the page.
        names: what its reader has defined.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blocks = BLOCK.findall(path.read_text(encoding="utf-8"))
        self.names: Names = {}
        self.ran: list[int] = []

    def run(self, number: int, *smaller: tuple[str, str], **given: object) -> Names:
        """Run a block; return the names it leaves.

        Args:
            number: which block.
            *smaller: words of it and what stands for them here; each must be there.
            **given: what the page leaves to its reader.
        """
        self.ran.append(number)
        code = self.blocks[number]
        for words, here in smaller:
            assert words in code
            code = code.replace(words, here)
        self.names.update(given)
        exec(compile(code, f"{self.path.name}, block {number}", "exec"), self.names)  # our own page
        return self.names

    def run_apart(self, number: int) -> None:
        """Run a block in a process of its own, which ends the programs that it starts."""
        self.ran.append(number)
        command = [sys.executable, "-c", self.blocks[number]]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """A folder to work in, with the settings of a new user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(SITE_VARIABLE, str(tmp_path / "site.txt"))
    monkeypatch.setenv(AUDIT_VARIABLE, str(tmp_path / "audit.jsonl"))
    return tmp_path


ENCODER = {"kind": "embedded", "path": None, "max_length": TEXT_LENGTH, "dim": TEXT_DIM}


def world(folder: str, *controls: str, **network: Any) -> Path:
    network.setdefault("crossattn_emb_channels", TEXT_DIM)
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    return write_world(folder, controls=controls, text_encoder=ENCODER, **network)


def frames(num_frames: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (num_frames, 32, 48, 3), dtype=np.uint8)


def readme(page: Page, request: pytest.FixtureRequest) -> None:
    made = Path("outputs/quickstart/videos")
    for name in ("starts", "true_actions"):
        (made / name).mkdir(parents=True)
    world("outputs/quickstart/action_world/export", "action")
    Image.fromarray(frames(1)[0]).save(made / "starts" / "episode_000000.png")
    np.save(made / "true_actions" / "episode_000000.npy", np.zeros((8, 7), np.float32))
    page.run(0, ("steps=12", "steps=2"))
    assert decode("moved.mp4").num_frames == 9 and Path("moved.json").is_file()
    tuned = world("worlds/7b", **DIFFUSION["diffusion_nano_video2world"].network)
    write_latents(
        "latents",
        Clips(text_dim=TEXT_DIM, width=48),
        tokenizer=tuned / "tokenizer",
        text_encoder=ENCODER,
    )
    page.run(
        1,
        ("diffusion_7b_video2world", "diffusion_nano_video2world"),
        ('"latents", 100', '"latents", 1'),
    )
    assert Path("outputs/diffusion_nano_video2world/export/model.safetensors").is_file()


class Checker:
    """What stands for the guards of diffusers, a package of its own."""


def checkpoints(page: Page, request: pytest.FixtureRequest) -> None:
    export_for_diffusers(request.getfixturevalue("monkeypatch"))
    page.run(0, checker=Checker(), t5=None, words=None)
    assert type(page.names["pipe"]).__name__ == "CosmosVideoToWorldPipeline"
    export_for_transformers()
    codes = torch.zeros((1, *GRID), dtype=torch.long)
    page.run(1, codes=codes)
    assert page.names["logits"].shape[:2] == (1, codes.numel())
    toy = request.getfixturevalue("toy")
    page.run(
        2,
        ("advance(100)", "advance(1)"),
        **toy.arguments(Path("runs"), 2),
        average=lambda mine, others: mine,
        others=[],
    )
    assert (page.names["folder"] / "export").is_dir()


def export_for_transformers() -> None:
    from nemo_cosmos import api

    api.export_ckpt(build(Path("codes_world")), "my_codes", "transformers")


def export_for_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.models.transformers import transformer_cosmos

    from nemo_cosmos import api

    # torchvision has no build beside torch for the CPU.
    monkeypatch.setattr(transformer_cosmos, "transforms", SimpleNamespace(), raising=False)
    api.export_ckpt(world("tiny"), "my_world")


def commands(page: Page, request: pytest.FixtureRequest) -> None:
    monkeypatch = request.getfixturevalue("monkeypatch")
    programs = Path("bin").absolute()
    programs.mkdir()
    sbatch = programs / "sbatch"  # there is no queue here
    queued = Path("queued.txt").absolute()
    sbatch.write_text(f'#!/bin/sh\necho "$@" >> {queued}\necho 7\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NEMORUN_HOME", str(Path("experiments").absolute()))
    page.run_apart(0)
    assert "_sbatch.sh" in queued.read_text()


def controls(page: Page, request: pytest.FixtureRequest) -> None:
    (signal,) = page.run(0)["SPEED"].signals
    assert signal.values(np.arange(9, dtype=np.float32))["speed"].shape == (9,)


def curation(page: Page, request: pytest.FixtureRequest) -> None:
    settings = page.run(0)["SharpnessSettings"](least=0.0)
    Path("raw").mkdir()
    encode_video("raw/clip.mp4", Video(frames(30), fps=10))
    kept = CurateSettings(split=SplitSettings(min_clip_s=1), skip=OPTIONAL_STAGES)
    curate("raw", "shards", replace(kept, added={"sharpness": settings}))
    (sample,) = read_samples(Path("shards"))
    assert sample.record.scores["sharpness"] > 0


def evaluation(page: Page, request: pytest.FixtureRequest) -> None:
    generated, truth = frames(), np.roll(frames(), 1, axis=2)
    for folder, video in (("generated", generated), ("truth", truth)):
        Path(folder).mkdir()
        encode_video(f"{folder}/a.mp4", Video(video, fps=10))
    page.run(0, generated_THWC=generated, truth_THWC=truth)
    metric = page.run(1)["PAIR"]
    assert set(evaluate_pair(generated, truth, [metric])) == {"my_distance"}


def generation(page: Page, request: pytest.FixtureRequest) -> None:
    world("my_world")
    encode_video("clip.mp4", Video(frames(), fps=10))
    page.run(0, ("steps=20", "steps=2"))
    assert decode("turn.mp4").num_frames == 9 and Path("turn.json").is_file()
    with pytest.raises(Cancelled, match="nobody waits"):
        page.run(1)


def guardrails(page: Page, request: pytest.FixtureRequest) -> None:
    guard = page.run(0)["NoBalloons"]()
    assert guard.check("a red block").allowed and not guard.check("a balloon").allowed


STORIES: dict[str, Callable[[Page, pytest.FixtureRequest], None]] = {
    "README.md": readme,
    "checkpoints.md": checkpoints,
    "commands.md": commands,
    "controls.md": controls,
    "curation.md": curation,
    "evaluation.md": evaluation,
    "generation.md": generation,
    "guardrails.md": guardrails,
}


@pytest.mark.parametrize("path", WITH_PYTHON, ids=lambda path: path.name)
def test_its_blocks_run_in_their_order(path, request):
    page = Page(path)
    STORIES[path.name](page, request)
    assert page.ran == list(range(len(page.blocks))), "every block has its part in the story"
