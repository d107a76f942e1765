"""What a command may import before its own work: no library that only others' work needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nemo_cosmos.testing.tiny import write_world

# Of each library, a module that is there only if its code has run.
COMPILERS = ("torch._dynamo.eval_frame", "torch._inductor.compile_fx", "torch.onnx")
LANGUAGE = ("transformers", "nemo.collections.llm.api", "nemo.core.classes", "datasets", "peft")
OTHERS = (
    "diffusers",
    "modelopt.torch.distill",
    "pandas",
    "pytorch_lightning",
    "scipy.signal",
    "sklearn",
    "torchmetrics.functional",
    "wandb.sdk",
)
TRAINERS = ("nemo", "lightning", "nemo_run", "fiddle", "torchmetrics")

RUN = """
import sys
from nemo_cosmos.cli.main import main

for line in {lines!r}:
    try:
        main(line)
    except SystemExit as stop:
        assert not stop.code, (line, stop.code)
    found = [name for name in {forbidden!r} if name in sys.modules]
    print("after", line[0], found, file=sys.stderr)
"""


def imported(lines: list[list[str]], forbidden: tuple[str, ...], tmp_path: Path) -> list[str]:
    """Run command lines in a new process; return what each left imported of what is forbidden."""
    script = RUN.format(lines=lines, forbidden=forbidden)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("after ")]


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(tmp_path / "site.txt"))
    monkeypatch.setenv("NEMO_COSMOS_AUDIT_LOG", str(tmp_path / "audit.jsonl"))


def test_a_configuration_needs_no_library_of_languages_or_compilers(tmp_path):
    lines = [
        ["pretrain", "--factory", "diffusion_nano_text2world", "--dryrun"],
        ["finetune", "--factory", "diffusion_nano_action", "--from", "world", "--dryrun"],
        ["pretrain", "--factory", "tokenizer_nano_cv4x8x8", "--dryrun"],
        ["plan", "--factory", "diffusion_7b_text2world", "--gpus", "8"],
    ]
    assert imported(lines, (*COMPILERS, *LANGUAGE, *OTHERS), tmp_path) == [
        f"after {words[0]} []" for words in lines
    ]


def test_a_sample_needs_no_trainer(tmp_path):
    encoder = {"kind": "embedded", "path": None, "max_length": 8, "dim": 512}
    world = write_world(
        tmp_path / "world", text_encoder=encoder, crossattn_emb_channels=encoder["dim"]
    )
    words = ["generate", str(world), "--prompt", "a red block", "--steps", "1"]
    forbidden = (*COMPILERS, *LANGUAGE, *OTHERS, *TRAINERS)
    assert imported([words], forbidden, tmp_path) == ["after generate []"]


def test_a_verdict_on_a_prompt_needs_no_network_library(tmp_path):
    words = ["guard", "text", "a red block"]
    forbidden = ("torch", "onnxruntime", *LANGUAGE, *OTHERS, *TRAINERS)
    assert imported([words], forbidden, tmp_path) == ["after guard []"]


def test_python_shows_no_warning_of_others(tmp_path):
    script = "from nemo_cosmos.inference import WorldPipeline; import nemo_cosmos.training.trainer"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
