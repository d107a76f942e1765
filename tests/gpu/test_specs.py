"""A network by each layer spec and precision: packs, recomputation, checkpoints, sampling.

The same bodies run on a CPU with the local layers, on a GPU with those, and on a GPU with
Transformer Engine in bfloat16 and in every FP8 scaling that it has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.megatron.fp8 import token_multiple
from nemo_cosmos.models.diffusion.network.packs import PackedDiT
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.denoiser import SamplingInputs, make_denoiser
from nemo_cosmos.models.diffusion.process.samplers import sample, seeded_noise
from nemo_cosmos.platform import compute_capability, ensure_model_parallel, has, install_cpu_backend
from nemo_cosmos.platform.hardware import FP8_CAPABILITIES, fp8_problem
from nemo_cosmos.testing.first_run.kit import error_of, inputs_for, network

#: Every axis is a multiple of 128, the coarsest that an FP8 scaling asks for.
SIZES: dict[str, Any] = {
    "num_layers": 3, "hidden_size": 256, "num_attention_heads": 4, "crossattn_emb_channels": 128,
    "adaln_lora_dim": 32, "max_frames": 8,
}  # fmt: skip
THW, TEXT_TOKENS = (2, 16, 16), 128


class Place(NamedTuple):
    """Where and how a network computes.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        spec: the layer spec.
        fp8: the FP8 scaling; None for bfloat16.
        tolerance: relative error that is allowed against the local layers in float32.
    """

    device: str
    spec: str
    fp8: str | None = None
    tolerance: float = 0.05

    def build(self, **changes: Any) -> PackedDiT:
        fp8 = {"fp8": "hybrid", "fp8_recipe": self.fp8} if self.fp8 else {}
        fields = SIZES | {"layer_spec": self.spec} | fp8 | changes
        return network(torch.device(self.device), torch.bfloat16, **fields)

    def inputs(self, net: PackedDiT, thw: tuple[int, int, int] = THW, seed: int = 1) -> Any:
        return inputs_for(
            net.config, torch.device(self.device), thw, text_tokens=TEXT_TOKENS,
            dtype=torch.bfloat16, seed=seed,
        )  # fmt: skip


def places() -> list[Any]:
    cuda, engine = torch.cuda.is_available(), has("transformer_engine")
    no_gpu = pytest.mark.skipif(not cuda, reason="there is no CUDA device")
    no_engine = pytest.mark.skipif(
        not (cuda and engine), reason="Transformer Engine is not installed, or has no GPU"
    )
    on_cpu = pytest.mark.skipif(cuda, reason="the CPU backend keeps off CUDA")
    found = [
        pytest.param(Place("cpu", "local"), id="cpu", marks=on_cpu),
        pytest.param(Place("cuda", "local"), id="cuda", marks=[no_gpu, pytest.mark.gpu]),
        pytest.param(
            Place("cuda", "transformer_engine"), id="engine", marks=[no_engine, pytest.mark.gpu]
        ),
    ]
    for recipe in FP8_CAPABILITIES:
        problem = fp8_problem(recipe, compute_capability())
        marks = [no_engine, pytest.mark.gpu, pytest.mark.skipif(bool(problem), reason=problem)]
        place = Place("cuda", "transformer_engine", recipe, tolerance=0.25)
        found.append(pytest.param(place, id=f"fp8 {recipe}", marks=marks))
    return found


@pytest.fixture(params=places())
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    # Transformer Engine would otherwise lay out scores in silence where no fused kernel fits.
    monkeypatch.setenv("NVTE_UNFUSED_ATTN", "0")
    install_cpu_backend()
    ensure_model_parallel()
    return request.param


@pytest.fixture(scope="module")
def exact() -> PackedDiT:
    """The same network in float32 on the CPU."""
    install_cpu_backend()
    ensure_model_parallel()
    return network(torch.device("cpu"), **SIZES)


def test_outputs_and_gradients_follow_float32(place: Place, exact: PackedDiT) -> None:
    exact.zero_grad()
    wanted = exact(inputs_for(exact.config, torch.device("cpu"), THW, text_tokens=TEXT_TOKENS))
    wanted.square().mean().backward()
    net = place.build()
    found = net(place.inputs(net))
    found.float().square().mean().backward()
    assert error_of(found, wanted) < place.tolerance
    for name, parameter in exact.named_parameters():
        error = error_of(net.get_parameter(name).grad, parameter.grad)
        assert error < 4 * place.tolerance, name


def test_packs_are_their_samples(place: Place) -> None:
    net = place.build()
    shapes = [THW, (1, 16, 8), (2, 8, 8), (1, 2, 2)]
    samples = [place.inputs(net, thw, seed) for seed, thw in enumerate(shapes)]
    if place.fp8:  # a sample alone must fill the multiple that FP8 asks for; a pack is padded
        samples = [place.inputs(net, THW, seed) for seed in range(3)]
    with torch.no_grad():
        together = net(samples)
        for one, given in zip(together, samples, strict=True):
            assert error_of(one, net(given)) < place.tolerance


def test_recomputation_changes_no_gradient(place: Place) -> None:
    gradients = []
    for changes in (
        {},
        {
            "recompute_granularity": "full",
            "recompute_method": "uniform",
            "recompute_num_layers": 1,
        },
    ):
        net = place.build(**changes).train()
        net(place.inputs(net)).float().square().mean().backward()
        gradients.append({name: each.grad for name, each in net.named_parameters()})
    for name, gradient in gradients[0].items():
        assert error_of(gradients[1][name], gradient) < 0.02, name


def test_a_checkpoint_brings_the_same_network_back(place: Place, tmp_path) -> None:
    from megatron.core import dist_checkpointing

    net = place.build()
    given = place.inputs(net)
    net(given).float().square().mean().backward()  # FP8 scales that a step has set
    dist_checkpointing.save(net.sharded_state_dict(), str(tmp_path))
    other = place.build()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    state = dist_checkpointing.load(other.sharded_state_dict(), str(tmp_path))
    other.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(other(given), net(given))


def test_a_local_checkpoint_loads_under_every_spec(place: Place, tmp_path) -> None:
    from megatron.core import dist_checkpointing

    local = network(torch.device(place.device), torch.bfloat16, **SIZES)
    dist_checkpointing.save(local.sharded_state_dict(), str(tmp_path))
    net = place.build()
    assert {name for name, _ in net.named_parameters()} == {
        name for name, _ in local.named_parameters()
    }
    wanted = {
        key: value for key, value in net.sharded_state_dict().items() if "_extra_state" not in key
    }
    net.load_state_dict(dist_checkpointing.load(wanted, str(tmp_path)))
    given = place.inputs(net)
    with torch.no_grad():
        assert error_of(net(given), local(given)) < place.tolerance


def test_sampling_follows_float32(place: Place, exact: PackedDiT) -> None:
    samples = []
    for net, device in ((exact, torch.device("cpu")), (place.build(), torch.device(place.device))):
        dtype = next(net.parameters()).dtype
        given = inputs_for(net.config, device, THW, text_tokens=TEXT_TOKENS, dtype=dtype)
        text = given.text
        conditions = SamplingInputs(text, torch.zeros_like(text), guidance=2.0, fps_B=given.fps_B)
        denoise = make_denoiser(net.eval(), conditions, DiffusionConfig())
        noise = seeded_noise((1, 16, *THW), 5).to(device)
        samples.append(sample(denoise, noise, num_steps=3))
    assert error_of(samples[1], samples[0]) < 2 * place.tolerance


def test_tokens_that_fp8_does_not_take_are_refused_before_the_product(place: Place) -> None:
    net = place.build()
    multiple = token_multiple(net.config)
    if multiple == 1:
        assert net(place.inputs(net, (1, 2, 4))).isfinite().all()
        return
    with pytest.raises(ConfigError, match=f"multiples of {multiple}"):
        net(place.inputs(net, (1, 2, 2 * (multiple + 8))))  # 8 more: the forward pass would do
    out = net(place.inputs(net, (1, 2, 2 * multiple))) if multiple <= 16 else None
    if out is not None:
        out.float().square().mean().backward()
