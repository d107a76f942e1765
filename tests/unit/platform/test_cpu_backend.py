"""Megatron-Core trains on a CPU, and a training step pays nothing for it."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch.overrides import _get_current_function_mode_stack

from nemo_cosmos.platform import ensure_model_parallel, has_cuda, install_cpu_backend

pytestmark = pytest.mark.skipif(has_cuda(), reason="the CPU backend is a no-op where CUDA is")


@pytest.fixture(scope="module", autouse=True)
def _model_parallel() -> None:
    ensure_model_parallel()


def build_linear(bias: bool = True) -> tuple[torch.nn.Module, Any]:
    from megatron.core.tensor_parallel.layers import ColumnParallelLinear
    from megatron.core.transformer.transformer_config import TransformerConfig

    from nemo_cosmos.platform.distributed import single_process_groups

    config = TransformerConfig(
        num_layers=1,
        hidden_size=6,
        num_attention_heads=1,
        use_cpu_initialization=True,
        cuda_graph_scope=[],
    )
    linear = ColumnParallelLinear(
        6, 4, config=config, init_method=torch.nn.init.xavier_uniform_,
        bias=bias,
        tp_group=single_process_groups().tp,
    )  # fmt: skip
    return linear, config


class Model(torch.nn.Module):
    """The least that Megatron's data-parallel wrapper and optimiser take."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.config = build_linear()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.modes_seen = len(_get_current_function_mode_stack())
        return self.linear(x)[0]


def test_installing_again_is_free_and_leaves_no_mode_behind() -> None:
    adam = __import__("megatron.core.optimizer", fromlist=["Adam"]).Adam
    current_device = torch.cuda.current_device
    assert install_cpu_backend()
    assert torch.cuda.current_device is current_device
    assert __import__("megatron.core.optimizer", fromlist=["Adam"]).Adam is adam
    assert not torch.cuda.is_available()
    assert _get_current_function_mode_stack() == []


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("distributed", [True, False])
def test_a_training_step_equals_torch_adamw(distributed: bool) -> None:
    from megatron.core.distributed import (
        DistributedDataParallel,
        DistributedDataParallelConfig,
        finalize_model_grads,
    )
    from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer

    torch.manual_seed(0)
    model = Model()
    plain = torch.nn.Linear(6, 4)
    plain.load_state_dict({"weight": model.linear.weight, "bias": model.linear.bias})
    reference = torch.optim.AdamW(
        [
            {"params": [plain.weight], "weight_decay": 0.1},
            {"params": [plain.bias], "weight_decay": 0.0},  # Megatron's rule: biases do not decay
        ],
        lr=0.05,
        betas=(0.9, 0.99),
    )
    ddp = DistributedDataParallel(
        model.config,
        DistributedDataParallelConfig(
            grad_reduce_in_fp32=True, use_distributed_optimizer=distributed
        ),
        model,
    )
    optimizer = get_megatron_optimizer(
        OptimizerConfig(
            optimizer="adam", lr=0.05, weight_decay=0.1, adam_beta1=0.9, adam_beta2=0.99,
            clip_grad=0.5, use_distributed_optimizer=distributed,
        ),
        [ddp],
    )  # fmt: skip
    for group in optimizer.param_groups:  # the schedulers' work, Megatron's or NeMo's
        group["weight_decay"] *= group["wd_mult"]
    for step in range(4):
        x = torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(step))
        ddp.zero_grad_buffer()
        optimizer.zero_grad()
        ddp(x).square().sum().backward()
        finalize_model_grads([ddp], None)
        succeeded, norm, _ = optimizer.step()
        reference.zero_grad()
        plain(x).square().sum().backward()
        expected_norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        reference.step()
        assert succeeded
        assert norm == pytest.approx(expected_norm.item(), rel=1e-5)
        assert model.modes_seen == 0, "a torch-function mode is active in the training step"
    torch.testing.assert_close(model.linear.weight, plain.weight, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model.linear.bias, plain.bias, atol=1e-6, rtol=1e-5)


def test_optimizer_state_survives_a_checkpoint() -> None:
    from nemo_cosmos.platform.patches.fused_adam import FusedAdam

    def step(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        parameter.grad = torch.ones_like(parameter) * parameter.detach()
        optimizer.step()

    straight = torch.nn.Parameter(torch.arange(1.0, 5.0))
    optimizer = FusedAdam([straight], lr=0.1)
    for _ in range(2):
        step(straight, optimizer)
    resumed = torch.nn.Parameter(straight.detach().clone())
    restored = FusedAdam([resumed], lr=0.3)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(straight, optimizer)
    step(resumed, restored)
    assert torch.equal(straight, resumed)
    assert restored.param_groups[0]["step"] == 3


def test_adam_with_coupled_decay_and_a_closure() -> None:
    from nemo_cosmos.platform.patches.fused_adam import FusedAdam

    ours, theirs = (torch.nn.Parameter(torch.arange(1.0, 5.0)) for _ in range(2))
    optimizers = (
        FusedAdam([ours], lr=0.1, weight_decay=0.2, adam_w_mode=False),
        torch.optim.Adam([theirs], lr=0.1, weight_decay=0.2),
    )
    for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):

        def closure(parameter: torch.nn.Parameter = parameter) -> torch.Tensor:
            parameter.grad = None
            loss = parameter.square().sum()
            loss.backward()
            return loss

        for _ in range(3):
            assert optimizer.step(closure) is not None
    torch.testing.assert_close(ours, theirs)


def test_gradients_below_the_norm_are_not_scaled() -> None:
    from nemo_cosmos.platform.patches.megatron import clip_grad_by_total_norm

    parameter = torch.nn.Parameter(torch.zeros(3))
    parameter.grad = torch.tensor([3.0, 0.0, 4.0])
    clip_grad_by_total_norm(parameter, max_norm=6.0, total_norm=5.0)
    assert parameter.grad.tolist() == [3, 0, 4]
    clip_grad_by_total_norm([parameter], max_norm=2.5, total_norm=5.0)
    torch.testing.assert_close(parameter.grad, torch.tensor([1.5, 0.0, 2.0]))


def test_random_states_fork_and_return() -> None:
    from megatron.core.tensor_parallel.random import get_cuda_rng_tracker

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with get_cuda_rng_tracker().fork():
        forked = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    assert not torch.equal(forked, expected)


def test_backward_follows_cpu_autocast() -> None:
    linear, _ = build_linear(bias=False)
    x = torch.randn(3, 2, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, _ = linear(x)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert linear.weight.grad.dtype == x.grad.dtype == torch.float32


@pytest.mark.parametrize("bias", [False, True])
def test_a_frozen_layer_computes_what_a_trained_one_does(bias: bool) -> None:
    """And as directly: a world that is used is frozen, and its decoder's steps are small."""
    linear, _ = build_linear(bias=bias)
    found = []
    for is_trained in (True, False):
        linear.requires_grad_(is_trained)
        x = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
        out, _ = linear(x)
        assert "Frozen" not in out.grad_fn.name(), "it is torch's own function"
        found.append((out, *torch.autograd.grad(out.square().sum(), x)))
    for trained, frozen in zip(*found, strict=True):
        assert torch.equal(trained, frozen)


def test_cuda_literals_mean_the_cpu_inside_megatron_only() -> None:
    from megatron.core.optimizer.grad_scaler import ConstantGradScaler
    from megatron.core.pipeline_parallel import schedules

    assert ConstantGradScaler(2.0).scale.device.type == "cpu"
    assert schedules.torch.zeros([], device="cuda", pin_memory=True).device.type == "cpu"
    assert isinstance(torch.zeros(1), schedules.torch.Tensor)
    assert schedules.torch._dynamo is torch._dynamo  # loaded on demand by torch
    with schedules.torch.autocast("cuda", dtype=torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(1, device="cuda")


def test_type_names_are_answered_only_while_an_optimizer_is_built() -> None:
    from nemo_cosmos.platform.patches.megatron import CudaTypeNames

    tensor = torch.zeros(1)
    with CudaTypeNames():
        assert tensor.type() == "torch.cuda.FloatTensor"
        assert tensor.type(torch.float64).dtype == torch.float64
    assert tensor.type() == "torch.FloatTensor"


def test_cuda_names_that_megatron_calls() -> None:
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == 0
    stream, event = torch.cuda.Stream(), torch.cuda.Event(enable_timing=True)
    with stream, torch.cuda.stream(stream), torch.cuda.device(0):
        stream.wait_stream(torch.cuda.current_stream())
        stream.wait_event(stream.record_event(event))
        event.record()
        event.wait()
        event.synchronize()
        stream.synchronize()
    assert stream.query()
    assert event.query()
    assert event.elapsed_time(stream.record_event()) == 0.0
    tensor, module = torch.zeros(1), torch.nn.Linear(1, 1)
    assert tensor.cuda() is tensor
    assert module.cuda() is module
    torch.cuda.manual_seed(5)
    state, first = torch.cuda.get_rng_state(), torch.rand(1)
    torch.cuda.set_rng_state(state)
    assert torch.equal(torch.rand(1), first)
    torch.cuda.manual_seed_all(5)
    assert torch.equal(torch.rand(1), first)


def test_megatrons_fused_kernels_are_plain_functions() -> None:
    from megatron.core import activations

    assert not hasattr(activations.squared_relu, "_torchdynamo_orig_callable")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert activations.squared_relu(torch.tensor([-1.0, 2.0])).tolist() == [0, 4]
