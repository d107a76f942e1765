"""Two processes that share a network's weights out generate what one does, in half the memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nemo_cosmos.guardrails import GuardPolicy, Verdict
from nemo_cosmos.guardrails.audit import AuditLog
from nemo_cosmos.testing.processes import ProcessPool
from nemo_cosmos.testing.tiny import write_world

TEXT = {"kind": "fixed", "path": None, "max_length": 6, "dim": 12}
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
    write_world(tmp_path / "world", controls=("action",), text_encoder=TEXT, num_layers=3)
    from nemo_cosmos.inference import pipeline

    monkeypatch.setattr(pipeline, "load_text_encoder", pipeline.load_text_encoder)
    expected_THWC, alone, whole = predict(str(tmp_path / "world"))
    assert alone == pytest.approx(whole, rel=1e-3)  # and the statistics of actions
    for frames_THWC, held, _ in two_processes.run(predict, str(tmp_path / "world")):
        difference = np.abs(frames_THWC.astype(int) - expected_THWC)
        assert difference.max() <= 1  # a value between two bytes may be rounded either way
        assert difference.mean() < 1e-3
        assert held == pytest.approx(alone / 2, rel=0.02)
