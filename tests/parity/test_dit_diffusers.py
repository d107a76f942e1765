"""Our DiT equals diffusers' ``CosmosTransformer3DModel`` with the same random weights."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from nemo_cosmos.checkpoint.diffusion.keys import export_diffusion_state, import_diffusion_state
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.platform import ensure_model_parallel

TOLERANCE = 1e-5
WIDTH, HEADS, LAYERS, TEXT = 192, 4, 3, 40


@pytest.fixture(scope="module", autouse=True)
def _model_parallel() -> None:
    ensure_model_parallel()


@pytest.fixture(autouse=True)
def _nearest_resize(monkeypatch: pytest.MonkeyPatch) -> None:
    """What diffusers takes from torchvision, which has no build beside the CPU build of torch."""
    from diffusers.models.transformers import transformer_cosmos

    def resize(mask: torch.Tensor, size: list[int], interpolation: str) -> torch.Tensor:
        return F.interpolate(mask, size=size, mode=interpolation)

    transforms = SimpleNamespace(
        functional=SimpleNamespace(resize=resize),
        InterpolationMode=SimpleNamespace(NEAREST="nearest"),
    )
    monkeypatch.setattr(transformer_cosmos, "transforms", transforms, raising=False)


def _pair(
    video2world: bool, extra_pos_emb: bool = True, ratios: tuple[float, ...] = (2.0, 1.0, 1.0)
) -> tuple[DiT, torch.nn.Module]:
    from diffusers import CosmosTransformer3DModel

    reference = CosmosTransformer3DModel(
        in_channels=17 if video2world else 16,
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        num_layers=LAYERS,
        text_embed_dim=TEXT,
        adaln_lora_dim=24,
        max_size=(16, 48, 64),
        rope_scale=ratios,
        extra_pos_embed_type="learnable" if extra_pos_emb else None,
    ).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():  # every weight matters: none is zero or one
        for parameter in reference.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.3
            noise = torch.randn(parameter.shape, generator=generator) * scale
            parameter.copy_(noise if parameter.ndim == 2 else 1 + noise)
        reference.proj_out.weight.mul_(0.6)  # outputs of about unit size, as in training
    config = DiTConfig(
        num_layers=LAYERS,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        crossattn_emb_channels=TEXT,
        adaln_lora_dim=24,
        condition_mask=video2world,
        extra_pos_emb=extra_pos_emb,
        rope_ratios_thw=ratios,
        max_frames=16,
        max_height=48,
        max_width=64,
    )
    net = DiT(config).eval()
    net.load_state_dict(import_diffusion_state(reference.state_dict(), config, "diffusers"))
    return net, reference


@torch.no_grad()
def _difference(
    net: DiT,
    reference: torch.nn.Module,
    shape_BTHW: tuple[int, int, int, int],
    fps: float | None,
    video2world: bool,
    padding: bool = False,
) -> float:
    batch, time, height, width = shape_BTHW
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(batch, 16, time, height, width, generator=generator)
    c_noise = torch.randn(batch, generator=generator)
    text = torch.randn(batch, 9, TEXT, generator=generator)
    text[:, 6:] = 0
    padding_mask = torch.zeros(1, 1, 8 * height, 8 * width)
    if padding:
        padding_mask[..., 5 * height :, :] = 1
        padding_mask[..., -13:] = 1
    condition_mask = None
    if video2world:
        condition_mask = torch.zeros(batch, 1, time, height, width)
        condition_mask[:, :, :2] = 1
    theirs = reference(
        hidden_states=x,
        timestep=c_noise,
        encoder_hidden_states=text,
        fps=fps,
        condition_mask=condition_mask,
        padding_mask=padding_mask,
        return_dict=False,
    )[0]
    ours = net(
        NetworkInput(
            x,
            c_noise,
            text,
            fps_B=None if fps is None else torch.full((batch,), fps),
            padding_mask_B1HW=padding_mask.expand(batch, -1, -1, -1),
            condition_mask_B1THW=condition_mask,
        )
    )
    assert theirs.std() > 0.05, "a vanishing output would hide a difference"
    return (ours - theirs).abs().max().item()


@pytest.mark.parametrize("video2world", [False, True])
@pytest.mark.parametrize("fps", [None, 12.0, 24.0, 30.0])
def test_text2world_and_video2world_at_several_frame_rates(
    video2world: bool, fps: float | None
) -> None:
    net, reference = _pair(video2world)
    assert _difference(net, reference, (2, 5, 8, 12), fps, video2world) <= TOLERANCE


@pytest.mark.parametrize("video2world", [False, True])
def test_padding_mask_and_non_square_latents(video2world: bool) -> None:
    net, reference = _pair(video2world)
    for shape in ((1, 3, 14, 6), (1, 2, 4, 22)):
        assert _difference(net, reference, shape, 16.0, video2world, padding=True) <= TOLERANCE


def test_image() -> None:
    net, reference = _pair(video2world=False)
    assert _difference(net, reference, (3, 1, 10, 8), None, False) <= TOLERANCE


def test_without_learned_positions_and_with_the_ratios_of_14b() -> None:
    net, reference = _pair(True, extra_pos_emb=False, ratios=(2.0, 2.0, 2.0))
    assert _difference(net, reference, (1, 4, 8, 8), 24.0, True) <= TOLERANCE


@torch.no_grad()
def test_noise_level_per_frame() -> None:
    net, reference = _pair(video2world=False)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 16, 4, 6, 8, generator=generator)
    c_noise = torch.randn(2, 4, generator=generator)
    text = torch.randn(2, 5, TEXT, generator=generator)
    theirs = reference(
        hidden_states=x,
        timestep=c_noise.reshape(2, 1, 4, 1, 1),
        encoder_hidden_states=text,
        fps=24.0,
        padding_mask=torch.zeros(1, 1, 6, 8),
        return_dict=False,
    )[0]
    ours = net(NetworkInput(x, c_noise, text, fps_B=torch.full((2,), 24.0)))
    assert (ours - theirs).abs().max() <= TOLERANCE


def test_gradients() -> None:
    net, reference = _pair(video2world=False)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 16, 3, 6, 8, generator=generator)
    target = torch.randn(1, 16, 3, 6, 8, generator=generator)
    c_noise, text = torch.tensor([0.3]), torch.randn(1, 5, TEXT, generator=generator)
    mask = torch.zeros(1, 1, 6, 8)
    theirs = reference(x, c_noise, text, fps=24.0, padding_mask=mask, return_dict=False)[0]
    ((theirs - target) ** 2).mean().backward()
    ((net(NetworkInput(x, c_noise, text, torch.tensor([24.0]))) - target) ** 2).mean().backward()
    ours = {name: parameter.grad for name, parameter in net.named_parameters()}
    exported = export_diffusion_state(ours, net.config, "diffusers")
    for name, parameter in reference.named_parameters():
        scale = parameter.grad.abs().max()
        assert (exported[name] - parameter.grad).abs().max() <= 1e-4 * scale + 1e-8, name
