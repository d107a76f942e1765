"""Autoregressive worlds by the commands that a person types."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nemo_cosmos.checkpoint.world.config import CONFIG_FILE, read_config, write_config
from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE
from nemo_cosmos.inference import pipeline
from nemo_cosmos.video import Video, decode, encode_video
from tests.parity.test_ar_checkpoints import TEXT, build

LENGTH, DIM = 7, 20
UNGUARDED = ("--disable-guard", "face_blur", "--json")


class Words:
    """One random but fixed vector a word."""

    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        found = torch.zeros(len(prompts), LENGTH, DIM)
        for row, prompt in enumerate(prompts):
            for place, word in enumerate(prompt.split()):
                generator = torch.Generator().manual_seed(sum(map(ord, word)))
                found[row, place] = torch.randn(DIM, generator=generator)
        return found, (found != 0).any(-1).float()


def make_world(folder: Path, **changes: object) -> Path:
    world = build(folder, **changes)
    words = {"kind": "words", "path": None, "max_length": LENGTH, "dim": DIM}
    write_config(world / CONFIG_FILE, replace(read_config(world), text_encoder=words))
    return world


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Callable[..., Any]
) -> Callable[..., Any]:
    monkeypatch.setattr(pipeline, "load_text_encoder", lambda spec: Words())
    monkeypatch.setenv(AUDIT_VARIABLE, str(tmp_path / "audit.jsonl"))
    monkeypatch.chdir(tmp_path)
    return run_cli


def test_a_world_with_a_text_begins_a_video(run: Callable[..., Any], tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", **TEXT)

    def frames(prompt: str, *options: str) -> np.ndarray:
        ran = run("generate", world, "-p", prompt, *UNGUARDED, *options)
        assert ran.code == 0, ran.err
        assert ran.json["num_frames"] == 9
        (made,) = json.loads((tmp_path / ran.json["provenance"]).read_text())["runs"]
        assert made["codes"] == 72
        return decode(tmp_path / ran.json["video"]).frames_THWC

    first = frames("a red block")
    assert np.array_equal(first, frames("a red block", "--decoding", "plain"))
    assert not np.array_equal(first, frames("rain in town"))
    assert not np.array_equal(first, frames("a red block", "--guidance", "2"))
    refused = run("generate", world, "-p", "a red block", *UNGUARDED, "--window", "73")
    assert refused.code == 2 and "window=73" in refused.err


def test_a_world_without_a_text_is_put_on_trial(run: Callable[..., Any], tmp_path: Path) -> None:
    world, episodes = make_world(tmp_path / "world"), tmp_path / "episodes"
    for number in range(2):
        frames_THWC = np.full((12, 32, 48, 3), 90, np.uint8)
        for frame, picture in enumerate(frames_THWC):
            picture[8:20, 2 * frame : 2 * frame + 10] = 150 + 50 * number
        encode_video(episodes / f"{number}.mp4", Video(frames_THWC, fps=10), crf=12)
        (episodes / f"{number}.json").write_text(json.dumps({"caption": "a square"}))
    words = ["evaluate", "--model", world, "--data", episodes, "-m", "psnr", *UNGUARDED]
    ran = run(*words, "--option", "window=8", "--option", "temperature=0", "--out", "trial")
    assert ran.code == 0, ran.err
    assert ran.json["scores"]["psnr"]["num"] == 2
    assert len(list((tmp_path / "trial" / "videos" / "own").glob("*.mp4"))) == 2
    refused = run(*words, "--option", "steps=1")
    assert refused.code == 2 and "steps" in refused.err
