"""Two ranks follow one through NeMo's trainer, in bfloat16: sequence, context, data and packs.

On a CPU the ranks talk by gloo, and ``tests/distributed`` compares many more layouts in float32; on
two GPUs they talk by NCCL.
"""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.testing.processes import ProcessPool
from tests.distributed.training_case import PACKS, STEPS, Layout, losses_of

LAYOUTS = {
    "sequence": (Layout(tensor_model_parallel_size=2, sequence_parallel=True), "video2world"),
    "context a2a": (
        Layout(context_parallel_size=2, config={"cp_comm_type": "a2a"}), "video2world",
    ),
    "context p2p": (
        Layout(context_parallel_size=2, config={"cp_comm_type": "p2p"}), "video2world",
    ),
    "data": (Layout(overlap=True), "video2world"),
    "packs": (Layout(tensor_model_parallel_size=2, sequence_parallel=True), PACKS),
    "fsdp": (Layout(fsdp="megatron"), "video2world"),
}  # fmt: skip
PRELOAD = ("nemo_cosmos.models.diffusion.model", "nemo_cosmos.training.trainer")
#: Of the losses of three steps, whose products are rounded to bfloat16 in another order.
RELATIVE = 2e-2


def follow(layouts: list[str], folder: str) -> None:
    expected: dict[str, list[float]] = {}
    with ProcessPool(1, preload=PRELOAD) as one:
        for task in {LAYOUTS[name][1] for name in layouts}:
            (expected[task],) = one.run(losses_of, task, Layout(), folder, "bf16-mixed")
    with ProcessPool(2, preload=PRELOAD) as two:
        for name in layouts:
            layout, task = LAYOUTS[name]
            found = two.run(losses_of, task, layout, folder, "bf16-mixed")[0]
            assert len(found) == STEPS
            assert found == pytest.approx(expected[task], rel=RELATIVE), name


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two CUDA devices")
def test_two_gpus_follow_one(tmp_path) -> None:
    follow(list(LAYOUTS), str(tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the CPU backend keeps off CUDA")
def test_two_processes_follow_one(tmp_path) -> None:
    follow(["sequence"], str(tmp_path))
