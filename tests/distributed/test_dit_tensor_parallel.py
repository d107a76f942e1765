"""A network split over two processes gives one process's loss and gradients.

Run as a program it is one of the processes: it prints its loss and gradient norms as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

RELATIVE = 1e-5


def measure(sequence_parallel: bool) -> dict[str, Any]:
    """Loss and gradient norms of a small network over all processes of this run."""
    import torch
    import torch.distributed as dist
    from megatron.core.distributed.finalize_model_grads import (
        _allreduce_non_tensor_model_parallel_grads,
    )

    from nemo_cosmos.models.diffusion.config import DiTConfig
    from nemo_cosmos.models.diffusion.dit import DiT
    from nemo_cosmos.platform import ensure_model_parallel

    size = int(os.environ.get("WORLD_SIZE", "1"))
    ensure_model_parallel(tp=size)
    config = DiTConfig(
        num_layers=2, hidden_size=96, num_attention_heads=4, crossattn_emb_channels=32,
        adaln_lora_dim=16, condition_mask=True, max_frames=8, max_height=16, max_width=16,
        tensor_model_parallel_size=size, sequence_parallel=sequence_parallel,
    )  # fmt: skip
    net = DiT(config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "linear_2" in name:  # the modulation starts at zero, which would hide a mistake
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    x = torch.randn(2, 16, 4, 6, 8, generator=generator)
    c_noise = torch.randn(2, 4, generator=generator)  # a noise level for each frame
    text = torch.randn(2, 8, 32, generator=generator)
    loss = net(x, c_noise, text, torch.tensor([24.0, 10.0])).square().mean()
    loss.backward()
    for parameter in net.parameters():
        parameter.main_grad = parameter.grad
    chunk = SimpleNamespace(
        module=net,
        named_parameters=net.named_parameters,
        ddp_config=SimpleNamespace(use_megatron_fsdp=False),
    )
    if size > 1:
        _allreduce_non_tensor_model_parallel_grads([chunk], config, net.tp_group)
    norms = {}
    for name, parameter in net.named_parameters():
        square = parameter.main_grad.square().sum()
        if size > 1 and getattr(parameter, "tensor_model_parallel", False):
            dist.all_reduce(square)
        norms[name] = square.sqrt().item()
    return {"loss": loss.item(), "norms": norms}


def launch(num_processes: int, sequence_parallel: bool = False) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", __file__]
    if num_processes > 1:
        command[1:1] = [
            "-W", "ignore", "-m", "torch.distributed.run", "--standalone",
            "--nproc-per-node", str(num_processes), "--no-python", sys.executable,
        ]  # fmt: skip
    command += ["--sequence-parallel"] * sequence_parallel
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=240, check=False
    )
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("{")]
    return json.loads(line)


@pytest.mark.slow
def test_tensor_and_sequence_parallel_equal_one_process() -> None:
    expected = launch(1)
    for sequence_parallel in (False, True):
        found = launch(2, sequence_parallel)
        assert found["loss"] == pytest.approx(expected["loss"], rel=RELATIVE)
        assert found["norms"] == pytest.approx(expected["norms"], rel=RELATIVE)


if __name__ == "__main__":
    measured = measure("--sequence-parallel" in sys.argv)
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(measured), flush=True)
