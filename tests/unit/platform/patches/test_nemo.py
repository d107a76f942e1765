"""NeMo's way of naming optimiser options reaches Megatron-Core 0.16's parameter groups."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.platform.patches import nemo as nemo_patches
from nemo_cosmos.platform.patches.fused_adam import FusedAdam
from nemo_cosmos.platform.patches.nemo import (
    _logged_tensor,
    _translate_optimizer_arguments,
    optimizer_overrides,
)


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Linear(3, 2)
        self.head = torch.nn.Linear(2, 2, bias=False)


def groups(**conditions: object) -> dict[str, tuple[float, float, float]]:
    """Parameter name -> (weight-decay factor, learning-rate factor, highest learning rate)."""
    from megatron.core.optimizer import OptimizerConfig, _get_param_groups

    ensure_model_parallel()
    config, model = OptimizerConfig(lr=0.1, min_lr=0.01), Model()
    overrides = optimizer_overrides(config, **conditions)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["wd_mult"], group["lr_mult"], group["max_lr"])
        for group in _get_param_groups([model], config, overrides)
        for parameter in group["params"]
    }


def test_without_conditions_megatrons_defaults_hold() -> None:
    assert groups() == {
        "body.weight": (1, 1, 0.1),
        "body.bias": (0, 1, 0.1),
        "head.weight": (1, 1, 0.1),
    }


def test_no_weight_decay_condition() -> None:
    decays = groups(no_weight_decay_cond=lambda name, parameter: name.startswith("head"))
    assert {name: values[0] for name, values in decays.items()} == {
        "body.weight": 1,
        "body.bias": 1,
        "head.weight": 0,
    }


def test_scaled_learning_rate_keeps_the_default_decay() -> None:
    scaled = groups(scale_lr_cond=lambda name, parameter: parameter.shape[0] == 2, lr_mult=0.5)
    assert scaled["head.weight"] == (1, 0.5, pytest.approx(0.05))
    assert scaled["body.bias"] == (0, 0.5, pytest.approx(0.05))


def test_both_conditions_meet_in_one_parameter() -> None:
    both = groups(
        no_weight_decay_cond=lambda name, parameter: "head" in name,
        scale_lr_cond=lambda name, parameter: "head" in name,
        lr_mult=2.0,
    )
    assert both["head.weight"] == (0, 2.0, pytest.approx(0.2))
    assert both["body.weight"] == (1, 1, 0.1)


def test_megatron_takes_nemos_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    import megatron.core.optimizer as optimizers

    calls = []
    monkeypatch.setattr(
        optimizers, "get_megatron_optimizer", lambda *args, **kwargs: calls.append((args, kwargs))
    )
    _translate_optimizer_arguments()
    config = optimizers.OptimizerConfig(lr=0.1)
    optimizers.get_megatron_optimizer(
        config, ["chunk"], no_weight_decay_cond=None, scale_lr_cond=None, lr_mult=1.0,
        use_gloo_process_groups=True,
    )  # fmt: skip
    optimizers.get_megatron_optimizer(
        config, ["chunk"], no_weight_decay_cond=lambda name, parameter: True
    )
    assert calls[0] == ((config, ["chunk"]), {"use_gloo_process_groups": True})
    ((override,),) = [list(kwargs["config_overrides"].values()) for _, kwargs in calls[1:]]
    assert override == {"wd_mult": 0.0}


@pytest.mark.parametrize("value", [3, 0.5, torch.tensor(2.0)])
def test_numbers_that_nemo_logs_stay_on_the_cpu(value: object) -> None:
    logged = _logged_tensor(value, pin_memory=True).to("cuda", non_blocking=True)
    assert logged.device.type == "cpu"
    assert logged.item() == float(value)
    assert not _logged_tensor(torch.ones(1, requires_grad=True)).requires_grad
    assert logged.to(torch.float64).dtype == torch.float64


# Importing NeMo's recipes brings in many packages, each with warnings of its own.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_installing_makes_nemo_neutral_to_the_device() -> None:
    import nemo.lightning.io.pl as checkpoint_io

    from nemo_cosmos.platform.patches.nemo import install_nemo_patches

    install_nemo_patches()
    install_nemo_patches()
    checkpoint = {"weight": torch.zeros(2)}
    assert checkpoint_io._fix_tensors_device(checkpoint)["weight"] is checkpoint["weight"]


def test_a_gpu_without_transformer_engine_and_apex_gets_our_adam(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Torch's AdamW keeps its steps where a resharded checkpoint does not find them."""
    import megatron.core.optimizer as optimizers
    from megatron.core.optimizer import distrib_optimizer

    ensure_model_parallel()
    nemo_patches.install_nemo_patches()
    monkeypatch.setattr(nemo_patches, "install_cpu_backend", lambda: False)  # as where CUDA is
    monkeypatch.setattr(optimizers, "USING_PYTORCH_OPTIMIZER", True)  # as Megatron falls back
    monkeypatch.setattr(optimizers, "Adam", torch.optim.AdamW)
    monkeypatch.setattr(distrib_optimizer, "Adam", torch.optim.Adam)
    monkeypatch.setattr(distrib_optimizer, "HAVE_APEX_OR_TE", False)
    nemo_patches.install_nemo_patches()
    config = optimizers.OptimizerConfig(lr=0.1, bf16=False, use_distributed_optimizer=False)
    built = optimizers._get_megatron_optimizer_based_on_param_groups(
        config, [], [{"params": [torch.nn.Parameter(torch.zeros(2))]}]
    )
    assert type(built.optimizer) is distrib_optimizer.Adam is FusedAdam
    assert distrib_optimizer.HAVE_APEX_OR_TE


def test_steps_are_counted_on_the_device_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's kernel refuses a count that is on the CPU."""
    counts: list[torch.Tensor] = []

    def kernel(*lists: list[torch.Tensor], **settings: object) -> None:
        counts.extend(lists[5])

    monkeypatch.setattr(torch, "_fused_adamw_", kernel)
    weight = torch.nn.Parameter(torch.zeros(2, device="meta"))
    weight.grad = torch.zeros(2, device="meta")
    FusedAdam([weight]).step()
    assert [count.device.type for count in counts] == ["meta"]
