"""A tokenizer's activations, counted on the meta device, are those of a real forward pass."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.costs import Precision
from nemo_cosmos.models.tokenizer.model import TokenizerModel
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.planning.counted import CountedPlan, KeptBytes, plan_counted
from nemo_cosmos.planning.hardware import GB, get_gpu

PRECISE = Precision.of("32", grad_reduce_in_fp32=True, ema=True)
H100 = get_gpu("h100")


def plan(
    name: str, clip_thw: tuple[int, int, int], num_gpus: int = 2, memory_gb: float = 80
) -> CountedPlan:
    batch = (2, 8)
    return plan_counted(
        TokenizerModel, TOKENIZERS[name], clip_thw, PRECISE, batch, H100, num_gpus, memory_gb * GB
    )


def test_activations_are_those_that_autograd_keeps() -> None:
    name, clip = "tokenizer_nano_cv4x8x8", (9, 32, 64)
    net = TokenizerNetwork(TOKENIZERS[name]).train()
    kept = KeptBytes(net)
    with kept.hooks():
        net(torch.rand(1, 3, *clip))
    assert plan(name, clip).activation_bytes / 2 == pytest.approx(kept.total, rel=0.15)


def test_a_published_tokenizer() -> None:
    found = plan("tokenizer_cv8x8x8", (121, 256, 256)).to_dict()
    assert found["parameters"] == 105_653_696
    assert found["model_state_gb_total"] == pytest.approx(105_653_696 * 20e-9)
    assert found["layout"]["data_parallel_size"] == 2
    assert found["layout"]["num_micro_batches"] == 2
    assert found["flops_per_step"] == 8 * 3 * found["forward_flops_per_sample"]


def test_what_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"does not divide over 3 GPUs. Use 1, 2, 4 GPUs"):
        plan("tokenizer_nano_cv4x8x8", (9, 32, 64), num_gpus=3)
    with pytest.raises(ConfigError, match=r"Nothing fits.*What would: GPUs of \d+ GB"):
        plan("tokenizer_cv8x8x8", (121, 256, 256), memory_gb=8)
