"""Which library computes a layer."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.megatron import layer_choice
from nemo_cosmos.models.diffusion.network import layer_specs
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.parallel.divisibility import Sharing


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "local"),  # float32, whose scores Transformer Engine would lay out
        ({"params_dtype": torch.bfloat16}, "transformer_engine"),
        ({"bf16": True}, "transformer_engine"),  # a trainer's mixed precision
    ],
)
def test_float32_stays_with_the_local_layers(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], expected: str
) -> None:
    monkeypatch.setattr(layer_choice, "has_cuda", lambda: True)
    monkeypatch.setattr(layer_choice, "has", lambda name: True)
    monkeypatch.setattr(layer_specs, "_local_spec", lambda: "local")
    monkeypatch.setattr(layer_specs, "_transformer_engine_spec", lambda: "transformer_engine")
    config = DiTConfig(num_layers=1, hidden_size=48, num_attention_heads=2, **changes)
    assert layer_specs.dit_layer_spec(config) == expected
    # What asks before anything is built, such as whether tokens divide, is told the same.
    assert Sharing.of(config, level_each_frame=False).even_boxes == (
        expected == "transformer_engine"
    )


@pytest.mark.parametrize(
    ("name", "gpu", "sharded", "refused"),
    [
        ("transformer_engine", True, False, None),
        ("auto", True, False, None),
        ("local", True, False, "of Apex"),
        ("auto", False, False, "Transformer Engine or"),
        ("transformer_engine", True, True, "fsdp=megatron"),
    ],
)
def test_gradients_are_fused_where_there_are_kernels(
    monkeypatch: pytest.MonkeyPatch, name: str, gpu: bool, sharded: bool, refused: str | None
) -> None:
    monkeypatch.setattr(layer_choice, "has_cuda", lambda: gpu)
    monkeypatch.setattr(layer_choice, "has", lambda package: package != "apex")
    config = DiTConfig(
        num_layers=1, hidden_size=48, num_attention_heads=2, layer_spec=name, bf16=True
    )
    layer_choice.check_fused_gradients(config, sharded)
    config.gradient_accumulation_fusion = True
    if refused is None:
        layer_choice.check_fused_gradients(config, sharded)
        return
    with pytest.raises(ConfigError, match=refused):
        layer_choice.check_fused_gradients(config, sharded)
