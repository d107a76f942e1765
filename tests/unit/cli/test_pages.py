"""Command lines of the pages, executed in their order with models of the smallest size."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import recipes.diffusion  # noqa: F401 - NeMo does not import while standard output is captured
from nemo_cosmos.cli.main import Exit
from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE
from nemo_cosmos.site import SITE_VARIABLE
from nemo_cosmos.testing.tiny import write_world
from nemo_cosmos.video import Video, encode_video

DOCS = Path(__file__).parents[3] / "docs"
LINE = re.compile(r"^nemo-cosmos (.*?)(?:  +#.*)?$", re.MULTILINE)
SHELL = re.compile(r"```bash\n(.*?)```", re.DOTALL)
TEXT_DIM = 512
# Words that come behind a page's own, so that it does not take long.
QUICK = ["--steps", "1", "--disable-guard", "face_blur"]


def lines_of(page: str, *commands: str) -> list[list[str]]:
    """The command lines of a page's shell blocks that begin with one of these commands."""
    text = "\n".join(SHELL.findall((DOCS / page).read_text(encoding="utf-8")))
    lines = [shlex.split(line) for line in LINE.findall(text.replace("\\\n", " "))]
    return [words for words in lines if words[0] in commands]


@pytest.fixture
def run(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(SITE_VARIABLE, str(tmp_path / "site.txt"))
    monkeypatch.setenv(AUDIT_VARIABLE, str(tmp_path / "audit.jsonl"))

    def run_line(words: list[str], *more: str) -> None:
        ran = run_cli(*words, *more)
        assert ran.code == Exit.DONE, (words, ran.err)

    return run_line


def world(folder: str, *controls: str) -> None:
    encoder = {"kind": "embedded", "path": None, "max_length": 32, "dim": TEXT_DIM}
    write_world(folder, controls=controls, text_encoder=encoder, crossattn_emb_channels=TEXT_DIM)


def frames(num_frames: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (num_frames, 32, 48, 3), dtype=np.uint8)


def test_generation(run):
    world("my_world")
    world("my_robot", "action")
    Image.fromarray(frames(1)[0]).save("first.png")
    encode_video("episode.mp4", Video(frames(), fps=10))
    np.save("actions.npy", np.zeros((8, 7), np.float32))
    lines = lines_of("generation.md", "generate", "predict", "extend")
    assert [words[0] for words in lines] == ["generate", "predict", "extend"]
    for words in lines:
        run(words, *QUICK)
    assert Path("rain.mp4").is_file() and Path("rain.json").is_file()


def test_evaluation(run):
    for name in ("GENERATED", "TRUTH"):
        Path(name).mkdir()
        encode_video(f"{name}/a.mp4", Video(frames(), fps=10))
    (words,) = lines_of("evaluation.md", "evaluate")
    run(words, "--metric", "psnr")
    assert list(Path("outputs/evaluation").iterdir())


def test_guardrails_and_audit(run):
    asked, *_ = lines_of("guardrails.md", "guard")
    (verify,) = lines_of("guardrails.md", "audit")
    assert asked[:2] == ["guard", "text"]
    run(asked)
    run(verify)
    assert Path("audit.jsonl").is_file()


def test_checkpoints(run):
    Path("worlds").mkdir()
    world("worlds/7b")
    (words,) = lines_of("checkpoints.md", "export")
    run(words)
    assert Path("my_world/model_index.json").is_file()
    run(["import", "my_world", "worlds/again"])
