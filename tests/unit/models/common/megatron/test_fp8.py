"""How many tokens FP8 products take on a rank, by recipe and layout."""

from __future__ import annotations

import pytest
from megatron.core.transformer.transformer_config import TransformerConfig

from nemo_cosmos.models.common.megatron.fp8 import token_multiple


@pytest.mark.parametrize(
    ("recipe", "ranks", "sequence_parallel", "multiple"),
    [
        ("tensorwise", 1, False, 16),  # 8 would pass forward and die in a weight's gradient
        ("tensorwise", 8, False, 16),
        ("tensorwise", 2, True, 8),
        ("tensorwise", 8, True, 8),
        ("delayed", 1, False, 16),
        ("blockwise", 1, False, 16),
        ("blockwise", 8, True, 128),
        ("mxfp8", 1, False, 32),
        ("mxfp8", 4, True, 32),
    ],
)
def test_multiples(recipe: str, ranks: int, sequence_parallel: bool, multiple: int) -> None:
    config = TransformerConfig(num_layers=1, hidden_size=64, num_attention_heads=8)
    assert token_multiple(config) == 1
    # Set afterwards, as a trainer's precision does: its own checks want a GPU.
    config.fp8, config.fp8_recipe = "hybrid", recipe
    config.tensor_model_parallel_size = ranks
    config.sequence_parallel = sequence_parallel
    assert token_multiple(config) == multiple
