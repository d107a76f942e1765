"""A network split over two processes gives one process's loss and gradients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nemo_cosmos.testing.processes import ProcessPool

RELATIVE = 1e-5


def measure(tp: int, sequence_parallel: bool = False) -> dict[str, Any]:
    """Loss and gradient norms of a small network over ``tp`` processes."""
    import torch
    import torch.distributed as dist
    from megatron.core.distributed.finalize_model_grads import (
        _allreduce_non_tensor_model_parallel_grads,
    )

    from nemo_cosmos.models.diffusion.network.config import DiTConfig
    from nemo_cosmos.models.diffusion.network.dit import DiT
    from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel(tp=tp)
    config = DiTConfig(
        num_layers=2, hidden_size=96, num_attention_heads=4, crossattn_emb_channels=32,
        adaln_lora_dim=16, condition_mask=True, max_frames=8, max_height=16, max_width=16,
        tensor_model_parallel_size=tp, sequence_parallel=sequence_parallel,
    )  # fmt: skip
    net = DiT(config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "linear_2" in name:  # the modulation starts at zero, which would hide a mistake
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    x = torch.randn(2, 16, 4, 6, 8, generator=generator)
    c_noise = torch.randn(2, 4, generator=generator)  # a noise level for each frame
    text = torch.randn(2, 8, 32, generator=generator)
    loss = net(NetworkInput(x, c_noise, text, torch.tensor([24.0, 10.0]))).square().mean()
    loss.backward()
    for parameter in net.parameters():
        parameter.main_grad = parameter.grad
    chunk = SimpleNamespace(
        module=net,
        named_parameters=net.named_parameters,
        ddp_config=SimpleNamespace(use_megatron_fsdp=False),
    )
    if tp > 1:
        _allreduce_non_tensor_model_parallel_grads([chunk], config, net.tp_group)
    norms = {}
    for name, parameter in net.named_parameters():
        square = parameter.main_grad.square().sum()
        if tp > 1 and getattr(parameter, "tensor_model_parallel", False):
            dist.all_reduce(square, group=net.tp_group)
        norms[name] = square.sqrt().item()
    return {"loss": loss.item(), "norms": norms}


@pytest.mark.slow
def test_tensor_and_sequence_parallel_equal_one_process(two_processes: ProcessPool) -> None:
    expected = two_processes.run(measure, tp=1)[0]
    for sequence_parallel in (False, True):
        for found in two_processes.run(measure, tp=2, sequence_parallel=sequence_parallel):
            assert found["loss"] == pytest.approx(expected["loss"], rel=RELATIVE)
            assert found["norms"] == pytest.approx(expected["norms"], rel=RELATIVE)


def spreads(tp: int, use_cpu_initialization: bool) -> dict[str, float]:
    """The largest absolute weight of each matrix in a layer's parallel linear maps."""
    from nemo_cosmos.models.diffusion.network.config import DiTConfig
    from nemo_cosmos.models.diffusion.network.dit import DiT
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel(tp=tp)
    config = DiTConfig(
        num_layers=1, hidden_size=192, num_attention_heads=4, crossattn_emb_channels=64,
        adaln_lora_dim=16, max_frames=8, max_height=16, max_width=16,
        tensor_model_parallel_size=tp, use_cpu_initialization=use_cpu_initialization,
    )  # fmt: skip
    layer = DiT(config).blocks.layers[0]
    return {
        name: weight.abs().max().item()
        for name, weight in layer.named_parameters()
        if weight.dim() == 2 and "linear" in name and "adaln" not in name
    }


@pytest.mark.slow
def test_weights_drawn_in_parts_spread_as_whole_ones(two_processes: ProcessPool) -> None:
    """On CUDA every rank draws its part for itself: ``use_cpu_initialization`` is off."""
    whole = two_processes.run(spreads, tp=1, use_cpu_initialization=True)[0]
    assert len(whole) == 7
    for found in two_processes.run(spreads, tp=2, use_cpu_initialization=False):
        assert found == pytest.approx(whole, rel=0.02)  # a uniform draw comes this near its bound


def measure_control(tp: int) -> dict[str, float]:
    """Gradient norms of what embeds a control, one map for each place where controls enter."""
    import torch
    from megatron.core.distributed.finalize_model_grads import (
        _allreduce_non_tensor_model_parallel_grads,
    )
    from torch import nn

    from nemo_cosmos.models.diffusion.network.config import DiTConfig
    from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding
    from nemo_cosmos.models.diffusion.network.dit import DiT
    from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel(tp=tp)
    config = DiTConfig(
        num_layers=2, hidden_size=96, num_attention_heads=4, crossattn_emb_channels=32,
        adaln_lora_dim=16, control_channels=2, max_frames=8, max_height=16, max_width=16,
        tensor_model_parallel_size=tp, sequence_parallel=tp > 1,
    )  # fmt: skip
    net = DiT(config)
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "linear_2" in name:
                parameter.copy_(draw(*parameter.shape) * 0.1)
    sizes = {
        "latent_channels_BCTHW": (2, 2, 4, 6, 8),
        "timestep_BTD": (2, 1, 96),
        "adaln_lora_BT3D": (2, 1, 3 * 96),
        "context_BLD": (2, 2, 32),
        "tokens_BDthw": (2, 96, 4, 3, 4),
    }
    embedder = nn.ParameterDict({name: draw(*size) * 0.3 for name, size in sizes.items()})
    for parameter in embedder.parameters():
        # As nemo_cosmos.models.diffusion.build marks what embeds a control.
        parameter.sequence_parallel = config.sequence_parallel
    x, c_noise, text = draw(2, 16, 4, 6, 8), draw(2), draw(2, 8, 32)
    control = ControlEmbedding(**{name: 1 * value for name, value in embedder.items()})
    inputs = NetworkInput(x, c_noise, text, torch.tensor([24.0, 10.0]), control=control)
    net(inputs).square().mean().backward()
    for parameter in embedder.parameters():
        parameter.main_grad = parameter.grad
    chunk = SimpleNamespace(
        module=embedder,
        named_parameters=embedder.named_parameters,
        ddp_config=SimpleNamespace(use_megatron_fsdp=False),
    )
    if tp > 1:
        _allreduce_non_tensor_model_parallel_grads([chunk], config, net.tp_group)
    return {name: value.main_grad.norm().item() for name, value in embedder.items()}


@pytest.mark.slow
def test_what_embeds_a_control_gets_its_gradient_once(two_processes: ProcessPool) -> None:
    expected = two_processes.run(measure_control, tp=1)[0]
    assert min(expected.values()) > 0
    for found in two_processes.run(measure_control, tp=2):
        assert found == pytest.approx(expected, rel=RELATIVE)
