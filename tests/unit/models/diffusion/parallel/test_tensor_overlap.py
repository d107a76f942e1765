"""What goes with tensor-parallel communication beside products, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.parallel.tensor_overlap import buffer_tokens

VIDEO = (4, 4, 8)
IMAGE = (1, 4, 8)


def make_config(**changes: Any) -> DiTConfig:
    values = {
        "num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "crossattn_emb_channels": 16,
        "adaln_lora_dim": 8, "max_frames": 8, "max_height": 16, "max_width": 16,
        "tensor_model_parallel_size": 2, "sequence_parallel": True, "bf16": True,
        "params_dtype": torch.bfloat16, "layer_spec": "transformer_engine",
    }  # fmt: skip
    config = DiTConfig(**{**values, **changes})
    config.tp_comm_overlap = True
    return config


@pytest.mark.parametrize(("context", "tokens"), [(1, 128), (4, 32)])
def test_buffers_have_the_tokens_that_context_parallel_ranks_hold(
    context: int, tokens: int
) -> None:
    config = make_config(context_parallel_size=context)
    assert buffer_tokens(config, [VIDEO, VIDEO], packed=False) == tokens
    config.tp_comm_overlap = False
    assert buffer_tokens(config, [VIDEO, IMAGE], packed=True) is None


@pytest.mark.parametrize(
    ("changes", "grids", "packed", "message"),
    [
        ({"sequence_parallel": False}, [VIDEO], False, "sequence_parallel=true"),
        (
            {"tensor_model_parallel_size": 1, "sequence_parallel": False},
            [VIDEO], False, "tensor_model_parallel_size to 2",
        ),
        ({"layer_spec": "local"}, [VIDEO], False, "Transformer Engine's layers"),
        ({}, [VIDEO, IMAGE], False, "latents of 32, 128 tokens"),
        ({}, [VIDEO], True, "the data are packs"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_it_is_refused(
    changes: dict[str, Any], grids: list[tuple[int, int, int]], packed: bool, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        buffer_tokens(make_config(**changes), grids, packed)
