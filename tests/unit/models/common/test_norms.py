"""Replicated layers carry what sequence parallelism needs."""

from __future__ import annotations

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

from nemo_cosmos.models.common.norms import ReplicatedLinear, RMSNorm


def make_config(**overrides: object) -> TransformerConfig:
    return TransformerConfig(
        num_layers=1, hidden_size=8, num_attention_heads=2, use_cpu_initialization=True,
        cuda_graph_scope=[], **overrides,
    )  # fmt: skip


def test_rms_norm() -> None:
    norm = RMSNorm(make_config(), 8)
    x = torch.randn(3, 8)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x), expected)
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def test_gradients_on_a_share_of_the_tokens_are_marked_for_summing() -> None:
    parallel = make_config(tensor_model_parallel_size=2, sequence_parallel=True)
    assert RMSNorm(parallel, 8).weight.sequence_parallel
    assert ReplicatedLinear(8, 4, parallel).weight.sequence_parallel
    assert not ReplicatedLinear(8, 4, parallel, on_share=False).weight.sequence_parallel
    assert not ReplicatedLinear(8, 4, make_config()).weight.sequence_parallel


def test_parameters_take_the_configured_type() -> None:
    linear = ReplicatedLinear(8, 4, make_config(params_dtype=torch.bfloat16))
    assert linear.weight.dtype == torch.bfloat16
    assert linear(torch.ones(2, 8, dtype=torch.bfloat16)).shape == (2, 4)
