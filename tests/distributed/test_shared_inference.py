"""Two processes that share a network's weights out generate what one does, in half the memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nemo_cosmos.guardrails import GuardPolicy, Verdict
from nemo_cosmos.guardrails.audit import AuditLog
from nemo_cosmos.testing.processes import ProcessPool

TEXT = {"kind": "fixed", "path": None, "max_length": 6, "dim": 12}
VIDEO = {"num_frames": 9, "fps": 10.0, "height": 32, "width": 48}
OPTIONS = {"steps": 2, "guidance": 2.0, "seed": 3}


class FixedEncoder:
    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(len(prompts[0]))
        size = (len(prompts), TEXT["max_length"])
        return torch.randn(*size, TEXT["dim"], generator=generator), torch.ones(size)


class AllowPrompt:
    name, kind = "allow", "prompt"

    def check(self, x: Any) -> Verdict:
        return Verdict(True, self.name, "safe", "")


class LeaveVideo:
    name, kind = "leave", "filter"

    def apply(self, frames_THWC: np.ndarray) -> tuple[np.ndarray, Verdict]:
        return frames_THWC, Verdict(True, self.name, "safe", "")


def save_tiny_world(folder: Path) -> None:
    from nemo_cosmos.checkpoint.world.config import WorldConfig
    from nemo_cosmos.checkpoint.world.folder import save_world
    from nemo_cosmos.controls import ControlSpec
    from nemo_cosmos.models.diffusion.build import build_network
    from nemo_cosmos.models.diffusion.controls import TokenizerFacts
    from nemo_cosmos.models.diffusion.family import DiffusionSettings
    from nemo_cosmos.models.diffusion.network.config import DiTConfig
    from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
    from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
    from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
    from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
    from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel()
    torch.manual_seed(0)
    config = DiTConfig(
        num_layers=3, hidden_size=48, num_attention_heads=2, crossattn_emb_channels=TEXT["dim"],
        adaln_lora_dim=8, max_frames=4, max_height=16, max_width=16, condition_mask=True,
        layer_spec="local",
    )  # fmt: skip
    process = DiffusionConfig(conditioning=ConditioningConfig(max_condition_latents=2))
    net = build_network(config, process, [ControlSpec("action")], TokenizerFacts(temporal_factor=4))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    tokenizer = replace(TOKENIZERS["tokenizer_nano_cv4x8x8"], channels=8, num_res_blocks=1)
    world = WorldConfig(
        "diffusion",
        DiffusionSettings(config.architecture(), process),
        TEXT,
        VIDEO,
        preset="tiny",
        controls=(ControlSpec("action"),),
    )
    save_world(folder, net, world, VideoTokenizer(TokenizerNetwork(tokenizer)))


def predict(folder: str) -> tuple[Any, int, int]:
    """Frames, the bytes of shared weights that this process holds, and the bytes of all."""
    from nemo_cosmos.checkpoint.formats.safetensors import SafetensorsSource
    from nemo_cosmos.inference import pipeline
    from nemo_cosmos.inference.loading import local_bytes

    pipeline.load_text_encoder = lambda spec: FixedEncoder()  # type: ignore[assignment]
    guards = GuardPolicy(
        [AllowPrompt(), LeaveVideo()], audit=AuditLog(Path(folder) / "audit.jsonl")
    )
    pipe = pipeline.WorldPipeline.from_folder(folder, guards)
    first = np.full((1, 32, 48, 3), 90, np.uint8)
    actions = np.linspace(-1, 1, 8 * 7, dtype=np.float32).reshape(8, 7)
    result = pipe.predict("a red block", first, control={"action": actions}, **OPTIONS)
    whole = SafetensorsSource(Path(folder) / "model.safetensors").specs
    num_bytes = sum(4 * int(np.prod(spec.shape)) for spec in whole.values())
    net = pipe.world.net
    control = local_bytes(net.controls)  # stays whole
    return result.video.frames_THWC, local_bytes(net) - control, num_bytes - control


def test_shared_weights_give_the_same_video(
    two_processes: ProcessPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_world(tmp_path / "world")
    from nemo_cosmos.inference import pipeline

    monkeypatch.setattr(pipeline, "load_text_encoder", pipeline.load_text_encoder)
    expected_THWC, alone, whole = predict(str(tmp_path / "world"))
    assert alone == pytest.approx(whole, rel=1e-3)  # and the statistics of actions
    for frames_THWC, held, _ in two_processes.run(predict, str(tmp_path / "world")):
        difference = np.abs(frames_THWC.astype(int) - expected_THWC)
        assert difference.max() <= 1  # a value between two bytes may be rounded either way
        assert difference.mean() < 1e-3
        assert held == pytest.approx(alone / 2, rel=0.02)
