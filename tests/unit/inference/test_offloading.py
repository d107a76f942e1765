"""Parts of a world that wait in the CPU's memory: who works when, and the same video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.guardrails import GuardPolicy
from nemo_cosmos.inference import WorldPipeline, offloading
from nemo_cosmos.inference import pipeline as pipeline_module
from nemo_cosmos.inference.offloading import NETWORK, TOKENIZER, Turns, check_offload


def test_parts_work_in_turns_and_the_video_stays_the_same(
    make_world: Callable[..., Path],
    guards: GuardPolicy,
    word_encoder: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline_module, "load_text_encoder", lambda spec: word_encoder)
    folder = make_world(task="video2world")
    frame = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), np.uint8)
    asked: dict[str, Any] = {"steps": 1, "guidance": 0.0}
    whole = WorldPipeline.from_folder(folder, guards).predict("a red block", frame, **asked)

    turns: list[str] = []
    take = Turns.take

    def noted(self: Turns, name: str) -> None:
        turns.append(name)
        take(self, name)

    monkeypatch.setattr(Turns, "take", noted)
    pipe = WorldPipeline.from_folder(folder, guards, offload=[NETWORK, TOKENIZER])
    working: list[str | None] = []
    pipe.world.net.register_forward_pre_hook(lambda *_: working.append(pipe._turns.at_work))
    made = pipe.predict("a red block", frame, **asked)
    assert turns == ["network", "tokenizer", "network", "tokenizer", "guards"]
    assert set(working) == {"network"}
    assert np.array_equal(made.video.frames_THWC, whole.video.frames_THWC)


def test_only_who_works_is_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("meta")  # a device that is not the CPU, on any machine
    monkeypatch.setattr(offloading, "default_device", lambda: device)
    network, tokenizer = nn.Linear(2, 2), nn.Linear(2, 2)
    turns = Turns({NETWORK: [network], TOKENIZER: [tokenizer]})
    turns.take(TOKENIZER)
    assert (network.weight.device.type, tokenizer.weight.device) == ("cpu", device)
    kept = nn.Linear(2, 2, device=device)
    turns = Turns({NETWORK: [network]})  # the tokenizer never waits
    turns.take(NETWORK)
    assert network.weight.device == kept.weight.device == device


@pytest.mark.parametrize(
    ("names", "processes", "message"),
    [
        (["networks"], 1, "nearest are 'network'"),
        (["diffusion_decoder"], 1, "--diffusion-decoder"),
        (["network"], 2, "--tensor-parallel"),
    ],
)
def test_parts_that_cannot_wait_are_refused(
    names: list[str], processes: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offloading, "num_processes", lambda: processes)
    with pytest.raises(ConfigError, match=message):
        check_offload(names, has_decoder=False)
