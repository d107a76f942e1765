"""What every model under NeMo's trainer shares."""

from __future__ import annotations

import pytest
import torch
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nemo_cosmos.models.common.megatron.module import MeanLoss, bare_network, to_device
from nemo_cosmos.platform import ensure_model_parallel


@pytest.fixture
def config() -> TransformerConfig:
    return TransformerConfig(num_layers=1, hidden_size=1, num_attention_heads=1)


def test_loss_reduction_without_batches_is_zero(config):
    assert MeanLoss(config).reduce([]).item() == 0


def test_the_loss_is_the_mean_over_samples_not_over_packs(config):
    ensure_model_parallel()
    config.calculate_per_token_loss = True
    reduction = MeanLoss(config)
    packs = [torch.tensor([1.0]), torch.tensor([2.0, 3.0, 6.0])]
    parts = [reduction.forward({}, losses) for losses in packs]
    assert [int(count) for _, count, _ in parts] == [1, 3]
    assert reduction.reduce([part for _, _, part in parts]).item() == 3.0


def test_a_scalar_loss_counts_once(config):
    ensure_model_parallel()
    reduction = MeanLoss(config)
    losses = [reduction.forward({}, torch.tensor(value)) for value in (1.0, 2.0)]
    assert losses[0][0].item() == 1.0
    assert reduction.reduce([part for _, part in losses]).item() == 1.5


class HostCopies(TorchDispatchMode):
    """Names what makes a GPU's host wait: numbers that go to the device or come from it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aten = torch.ops.aten
        copies = (aten.lift_fresh, aten._to_copy, aten.copy_, aten._local_scalar_dense)
        if func.overloadpacket in copies:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("per_token", [False, True])
def test_the_host_waits_for_nothing_between_forward_and_backward(config, per_token):
    config.calculate_per_token_loss = per_token
    losses = torch.tensor([2.0, 3.0, 6.0])
    with HostCopies() as copies:
        *_, parts = MeanLoss(config).forward({}, losses)
    assert copies.found == []
    assert parts["loss_and_count"].tolist() == [11.0, 3.0]


def test_wrappers_are_taken_off():
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    network = nn.Linear(1, 1)
    assert bare_network(Wrapper(Wrapper(network))) is network
    assert bare_network(network) is network


def test_only_tensors_move():
    batch = {"key": ["a", "b"], "latent": [torch.ones(1)], "fps": 24.0}
    moved = {name: to_device(value) for name, value in batch.items()}
    assert moved["key"] == ["a", "b"] and moved["fps"] == 24.0
    assert torch.equal(moved["latent"][0], torch.ones(1))
