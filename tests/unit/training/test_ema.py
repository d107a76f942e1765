"""The average of the weights, alone."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.training.callbacks.ema import EMA, averaged_weights, power_exponent
from nemo_cosmos.training.strategy import WorldStrategy


def start(ema: EMA, *parameters: nn.Parameter) -> EMA:
    strategy = WorldStrategy()
    strategy.megatron_parallel = nn.ParameterList(parameters)
    trainer = SimpleNamespace(strategy=strategy, global_step=0)
    ema.on_train_start(trainer, None)
    return ema


def test_the_first_updates_remember_little():
    weight = nn.Parameter(torch.zeros(3))
    ema = start(EMA(decay=0.9), weight)
    with torch.no_grad():
        weight.fill_(1.0)
    ema.update()
    assert torch.allclose(ema._averages[0], torch.full((3,), 0.9))
    ema.num_updates = 1000
    assert ema.current_decay() == 0.9


def test_swapping_restores_the_weights_in_place():
    weight = nn.Parameter(torch.zeros(3))
    ema = start(EMA(decay=0.5), weight)
    with torch.no_grad():
        weight.fill_(2.0)
    storage = weight.data_ptr()
    with ema.applied():
        assert torch.equal(weight.data, torch.zeros(3))
    assert torch.equal(weight.data, torch.full((3,), 2.0))
    assert weight.data_ptr() == storage


def test_frozen_weights_are_left_out_and_master_weights_are_used():
    frozen = nn.Parameter(torch.zeros(3), requires_grad=False)
    half = nn.Parameter(torch.zeros(2, 2, dtype=torch.bfloat16))
    half.main_param = torch.full((4,), 0.1)
    ema = start(EMA(), frozen, half)
    [average] = ema._averages
    assert average.dtype == torch.float32
    assert torch.equal(average, torch.full((2, 2), 0.1))


class CastsAlive(TorchDispatchMode):
    """Counts the converted tensors that are held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._casts: list[weakref.ref] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default:
            self._casts.append(weakref.ref(out))
            self.most = max(self.most, sum(cast() is not None for cast in self._casts))
        return out


def test_an_update_holds_one_float32_weight_at_a_time():
    weights = [nn.Parameter(torch.ones(4, dtype=torch.bfloat16)) for _ in range(6)]
    ema = start(EMA(decay=0.0), *weights)
    with torch.no_grad():
        for number, weight in enumerate(weights):
            weight.fill_(number)
    with CastsAlive() as casts:
        ema.update()
    assert casts.most <= 2  # the last one may live until the next is made
    assert [float(average[0]) for average in ema._averages] == [0, 1, 2, 3, 4, 5]


class LateWeights(nn.ParameterList):
    """Weights of which other ranks' rows arrive during the next forward pass, or when forced."""

    def force_param_sync(self) -> None:
        for weight in self:
            weight.data[1:] = weight.data[0]


def test_without_an_average_the_weights_of_other_ranks_are_waited_for():
    """An export or a sample of a run without EMA, right behind a step."""
    weight = nn.Parameter(torch.zeros(3))
    strategy = WorldStrategy()
    strategy.ddp_config.overlap_param_gather = True
    strategy.megatron_parallel = LateWeights([weight])
    weight.data[0] = 1.0  # this rank's row after a step
    with averaged_weights(SimpleNamespace(strategy=strategy, callbacks=[])):
        assert torch.equal(weight.data, torch.ones(3))


@pytest.mark.parametrize("rate", [0.05, 0.10, 0.25])
def test_power_exponent_solves_the_equation(rate):
    gamma = power_exponent(rate)
    width_squared = (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))
    assert width_squared == pytest.approx(rate**2, rel=1e-6)


def test_power_average_of_a_ramp_lags_by_the_profile():
    # Its profile is (gamma + 1) t^gamma: the mean of t over it is (gamma + 1) / (gamma + 2).
    weight = nn.Parameter(torch.zeros(1))
    ema = start(EMA(power_rate=0.1), weight)
    for step in range(1, 2001):
        with torch.no_grad():
            weight.fill_(step / 2000)
        ema.update()
    gamma = power_exponent(0.1)
    assert float(ema._averages[0]) == pytest.approx((gamma + 1) / (gamma + 2), rel=2e-3)


def test_the_number_of_updates_is_state():
    ema = EMA()
    ema.num_updates = 7
    other = EMA()
    other.load_state_dict(ema.state_dict())
    assert other.num_updates == 7


@pytest.mark.parametrize("wrong", [{"decay": 1.0}, {"power_rate": 0.3}, {"power_rate": 0.0}])
def test_wrong_values(wrong):
    with pytest.raises(ConfigError, match="outside"):
        EMA(**wrong)
