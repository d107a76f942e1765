"""A tiny network in which every weight matters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork
from nemo_cosmos.platform import ensure_model_parallel

TEXT = {"context_channels": 12, "absolute_positions": True, "begin_token": True}

Build = Callable[..., ARNetwork]


@pytest.fixture(scope="session")
def build() -> Build:
    """Builds a network of 40 codes; its scores are spread so that neither few nor all codes win."""

    def make(*, text: bool = False, spread: float = 1.5, **changes: object) -> ARNetwork:
        ensure_model_parallel()  # a training of another test may have taken it down
        sizes = {"num_layers": 2, "hidden_size": 48, "ffn_hidden_size": 32, "vocab_size": 40}
        heads = {"num_attention_heads": 4, "num_query_groups": 2}
        settings = {**sizes, **heads, **(TEXT if text else {}), **changes}
        net = ARNetwork(ARConfig(**settings)).eval().requires_grad_(False)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(11)
        for parameter in net.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.2
            offset = 0.0 if parameter.ndim == 2 else 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale + offset)
        net.output.weight.mul_(spread)
        return net

    return make
