"""Behaviour of the diffusion transformer on one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nemo_cosmos.errors import (
    ConfigError,
    MissingDependencyError,
    WrongFrameCountError,
    WrongSizeError,
)
from nemo_cosmos.models.common.attention.context_parallel import check_kind
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.platform import ensure_model_parallel

WIDTH, TEXT, FRAMES = 72, 24, 4


@pytest.fixture(scope="module", autouse=True)
def _model_parallel() -> None:
    ensure_model_parallel()


def make_net(**overrides: Any) -> DiT:
    """A network whose modulation is not at its zero start, so that every input matters."""
    values: dict[str, Any] = {
        "num_layers": 2,
        "hidden_size": WIDTH,
        "num_attention_heads": 3,
        "crossattn_emb_channels": TEXT,
        "adaln_lora_dim": 8,
        "max_frames": 8,
        "max_height": 16,
        "max_width": 16,
    }
    torch.manual_seed(0)
    net = DiT(DiTConfig(**{**values, **overrides}))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "adaln" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    return net


def inputs(batch: int = 2, frames: int = FRAMES) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "x_BCTHW": torch.randn(batch, 16, frames, 6, 8, generator=generator),
        "c_noise": torch.randn(batch, generator=generator),
        "text": torch.randn(batch, 5, TEXT, generator=generator),
        "fps_B": torch.full((batch,), 24.0),
    }


def test_output_has_the_shape_and_type_of_the_latent() -> None:
    batch = inputs()
    out = make_net()(NetworkInput(**batch))
    assert out.shape == batch["x_BCTHW"].shape
    assert out.dtype == torch.float32


def similarity_to_input(**overrides: Any) -> float:
    """Cosine between a fresh network's input and output."""
    config = {"num_layers": 2, "hidden_size": 96, "num_attention_heads": 3, **overrides}
    torch.manual_seed(0)
    net = DiT(DiTConfig(crossattn_emb_channels=TEXT, **config))
    batch = inputs()
    with torch.no_grad():
        out = net(NetworkInput(**batch))
    return float(torch.cosine_similarity(out.flatten(), batch["x_BCTHW"].flatten(), dim=0))


def test_a_fresh_network_can_pass_the_negative_of_its_latent_on() -> None:
    assert similarity_to_input(passthrough_init=True) < -0.8
    assert abs(similarity_to_input()) < 0.1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("c_noise", torch.tensor([0.5, -0.5])),
        ("text", torch.ones(2, 5, TEXT)),
        ("fps_B", torch.tensor([12.0, 24.0])),
        ("padding_mask_B1HW", torch.ones(2, 1, 48, 64)),
    ],
)
def test_every_condition_matters(name: str, value: torch.Tensor) -> None:
    net, batch = make_net(), inputs()
    changed = net(NetworkInput(**{**batch, name: value}))
    assert (changed - net(NetworkInput(**batch)))[0].abs().max() > 1e-3


@torch.no_grad()
def test_samples_of_a_batch_do_not_see_each_other() -> None:
    """Also with frame rates that differ within the batch."""
    net, batch = make_net(), inputs()
    batch["fps_B"] = torch.tensor([10.0, 30.0])
    together = net(NetworkInput(**batch))
    for index in range(2):
        alone = net(
            NetworkInput(**{name: value[index : index + 1] for name, value in batch.items()})
        )
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_equal_noise_levels_per_frame_are_one_level() -> None:
    net, batch = make_net(), inputs()
    per_frame = {**batch, "c_noise": batch["c_noise"][:, None].expand(-1, FRAMES)}
    torch.testing.assert_close(
        net(NetworkInput(**per_frame)), net(NetworkInput(**batch)), atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_a_noise_level_per_frame_belongs_to_its_frame() -> None:
    """Without attention between frames, changing one frame's level changes that frame alone."""
    net, batch = make_net(num_layers=1), inputs()
    layer = net.blocks.layers[0]
    layer.self_attention.linear_proj.weight.zero_()
    levels = torch.zeros(2, FRAMES)
    before = net(NetworkInput(**{**batch, "c_noise": levels}))
    levels[:, 2] = 1.0
    difference = (
        (net(NetworkInput(**{**batch, "c_noise": levels})) - before).abs().amax(dim=(0, 1, 3, 4))
    )
    assert difference[2] > 1e-3
    assert difference[[0, 1, 3]].max() == 0


@torch.no_grad()
def test_text_can_be_encoded_once() -> None:
    net, batch = make_net().eval(), inputs()
    text = batch.pop("text")
    cached = net(NetworkInput(text=net.encode_text(text), **batch))
    assert torch.equal(cached, net(NetworkInput(text=text, **batch)))


@torch.no_grad()
def test_image_batch() -> None:
    """One frame, no frame rate: the same as frame rate at any value, as time starts at zero."""
    net, batch = make_net(), inputs(frames=1)
    fps = batch.pop("fps_B")
    torch.testing.assert_close(
        net(NetworkInput(**batch)), net(NetworkInput(**batch, fps_B=fps * 3))
    )


def test_condition_mask() -> None:
    net, batch = make_net(condition_mask=True), inputs()
    mask = torch.zeros(2, 1, FRAMES, 6, 8)
    torch.testing.assert_close(
        net(NetworkInput(**batch)), net(NetworkInput(**batch, condition_mask_B1THW=mask))
    )
    mask[:, :, :1] = 1
    assert (
        net(NetworkInput(**batch, condition_mask_B1THW=mask)) - net(NetworkInput(**batch))
    ).abs().max() > 1e-3
    with pytest.raises(ConfigError, match="condition mask"):
        make_net()(NetworkInput(**batch, condition_mask_B1THW=mask))


def test_every_control_enters_and_receives_a_gradient() -> None:
    net, batch = make_net(control_channels=6), inputs()
    control = ControlEmbedding(
        latent_channels_BCTHW=torch.randn(2, 6, FRAMES, 6, 8, requires_grad=True),
        timestep_BTD=torch.randn(2, FRAMES, WIDTH, requires_grad=True),
        adaln_lora_BT3D=torch.randn(2, 1, 3 * WIDTH, requires_grad=True),
        context_BLD=torch.randn(2, 2, TEXT, requires_grad=True),
        tokens_BDthw=torch.randn(2, WIDTH, FRAMES, 3, 4, requires_grad=True),
    )
    net(NetworkInput(**batch, control=control)).square().mean().backward()
    of_network = {**vars(control)}
    # What changes start from is the process's: the network does not see it.
    assert of_network.pop("change_base_BCTHW") is None
    for field in of_network.values():
        assert field.grad.abs().max() > 0


@torch.no_grad()
def test_channels_of_the_latent_and_a_linear_branch_of_the_tokens_are_the_same() -> None:
    """A branch needs no wider network, so that the weights of a pre-trained one load."""
    wide, batch = make_net(control_channels=6), inputs()
    narrow, rays = make_net(), torch.randn(2, 6, FRAMES, 6, 8)
    state = wide.state_dict()
    weight = state["patch_embed.proj.weight"].unflatten(1, (-1, 4))
    state["patch_embed.proj.weight"] = weight[:, [*range(16), *range(22, weight.shape[1])]].flatten(
        1
    )
    narrow.load_state_dict(state)
    patches = rays.reshape(2, 6, FRAMES, 3, 2, 4, 2).permute(0, 2, 3, 5, 1, 4, 6).flatten(4)
    tokens = patches @ weight[:, 16:22].flatten(1).t()
    stacked = wide(NetworkInput(**batch, control=ControlEmbedding(latent_channels_BCTHW=rays)))
    branch = ControlEmbedding(tokens_BDthw=tokens.permute(0, 4, 1, 2, 3))
    torch.testing.assert_close(narrow(NetworkInput(**batch, control=branch)), stacked)


def test_a_control_of_other_tokens() -> None:
    control = ControlEmbedding(tokens_BDthw=torch.zeros(2, WIDTH, FRAMES, 6, 8))
    with pytest.raises(WrongSizeError, match=r"4 x 6 x 8 tokens.*4 x 3 x 4"):
        make_net()(NetworkInput(**inputs(), control=control))


def test_a_control_of_another_length() -> None:
    control = ControlEmbedding(timestep_BTD=torch.zeros(2, FRAMES + 1, WIDTH))
    with pytest.raises(WrongFrameCountError, match=r"5 values along time.*4 frames"):
        make_net()(NetworkInput(**inputs(), control=control))


@torch.no_grad()
def test_encoded_text_takes_the_controls_tokens() -> None:
    net, batch = make_net().eval(), inputs()
    text = batch.pop("text")
    control = ControlEmbedding(context_BLD=torch.randn(2, 2, TEXT))
    cached = net(NetworkInput(text=net.encode_text(text, control), **batch, control=control))
    torch.testing.assert_close(cached, net(NetworkInput(text=text, **batch, control=control)))


@pytest.mark.parametrize(
    "recompute",
    [
        {"recompute_method": "uniform", "recompute_num_layers": 2},
        {"recompute_method": "block", "recompute_num_layers": 1},
    ],
)
def test_recomputation_changes_nothing(recompute: dict[str, Any]) -> None:
    batch, gradients = inputs(), []
    for settings in ({}, {"recompute_granularity": "full", **recompute}):
        net = make_net(num_layers=3, **settings).train()
        net(NetworkInput(**batch)).square().mean().backward()
        gradients.append({name: p.grad for name, p in net.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-7, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:If you are using transformer_engine:UserWarning")
def test_recomputing_attention_alone_changes_nothing() -> None:
    batch, outputs = inputs(), []
    for settings in ({}, {"recompute_granularity": "selective"}):
        net = make_net(**settings).train()
        loss = net(NetworkInput(**batch)).square().mean()
        loss.backward()
        outputs.append(net.patch_embed.proj.weight.grad)
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-7, rtol=1e-5)


def test_unknown_recomputation() -> None:
    net = make_net(recompute_granularity="full", recompute_method="uniform", recompute_num_layers=1)
    net.config.recompute_method = "sometimes"
    with pytest.raises(ConfigError, match="sometimes"):
        net.train()(NetworkInput(**inputs()))


def test_bfloat16_parameters_follow_float32() -> None:
    net, batch = make_net(), inputs()
    expected = net(NetworkInput(**batch))
    out = net.bfloat16()(NetworkInput(**batch))
    assert out.dtype == torch.float32
    assert (out - expected).norm() < 0.05 * expected.norm()
    out.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_bfloat16_autocast_follows_float32() -> None:
    net, batch = make_net(), inputs()
    net(NetworkInput(**batch)).square().mean().backward()
    expected = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net(NetworkInput(**batch)).square().mean()
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.dtype == torch.float32
        difference = (parameter.grad - expected[name]).norm()
        assert difference < 0.1 * expected[name].norm() + 1e-6, name


def test_wrong_sizes_name_the_legal_ones() -> None:
    net, batch = make_net(), inputs()
    x = batch.pop("x_BCTHW")
    with pytest.raises(WrongSizeError, match=r"width is 7.*multiples of 2.*nearest is 8"):
        net(NetworkInput(x[..., :7], **batch))
    with pytest.raises(WrongSizeError, match=r"height is 18.*up to 16"):
        net(NetworkInput(x.new_zeros(2, 16, 2, 18, 8), **batch))
    with pytest.raises(WrongFrameCountError, match=r"9 frames.*up to 8"):
        net(NetworkInput(x.new_zeros(2, 16, 9, 6, 8), **batch))
    with pytest.raises(WrongFrameCountError, match="c_noise has 3"):
        net(NetworkInput(x, **{**batch, "c_noise": torch.zeros(2, 3)}))


def test_wrong_widths_say_what_was_built() -> None:
    net, batch = make_net(), inputs()
    with pytest.raises(ConfigError, match="crossattn_emb_channels=24"):
        net(NetworkInput(**{**batch, "text": torch.zeros(2, 5, TEXT + 1)}))
    with pytest.raises(ConfigError, match="has 16 channels, but it was built for 17"):
        net(NetworkInput(**{**batch, "x_BCTHW": batch["x_BCTHW"][:, :15]}))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hidden_size": 70}, "does not divide"),
        ({"hidden_size": 24}, "at least 12"),
        ({"layer_spec": "flash"}, "'flash' is unknown"),
    ],
)
def test_bad_configurations(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_net(**overrides)


@pytest.mark.skipif(torch.cuda.is_available(), reason="Transformer Engine may be installed")
@pytest.mark.parametrize("overrides", [{"fp8": "hybrid"}, {"layer_spec": "transformer_engine"}])
def test_transformer_engine_is_never_silently_absent(overrides: dict[str, Any]) -> None:
    with pytest.raises(MissingDependencyError, match="transformer_engine"):
        make_net(**overrides)


def test_the_local_attention_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match=r"'ulysses' is not one of a2a, p2p"):
        make_net(cp_comm_type="ulysses")
    with pytest.raises(ConfigError, match="needs a context"):
        make_net().blocks.layers[0].cross_attention(torch.zeros(3, 1, WIDTH))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"tensor_model_parallel_size": 2}, r"num_attention_heads=3.*one of \[1, 3"),
        ({"pipeline_model_parallel_size": 7}, r"num_layers=.*=7 stages.*one of \[1, 2"),
        ({"virtual_pipeline_model_parallel_size": 2}, "needs a pipeline"),
    ],
)
def test_a_layout_that_does_not_divide(layout: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_net(**layout)


def test_all_to_all_needs_heads_that_divide() -> None:
    assert check_kind(None, num_heads=3, cp_size=2) == "p2p"
    with pytest.raises(ConfigError, match=r"6 heads.*4 context.*\[1, 2, 3, 6\].*p2p"):
        check_kind("a2a", num_heads=6, cp_size=4)


def test_architecture_round_trip() -> None:
    config = make_net(condition_mask=True).config
    values = config.architecture()
    again = DiTConfig.from_architecture(values, params_dtype=torch.bfloat16)
    assert again.architecture() == values
    assert again.params_dtype == torch.bfloat16
    with pytest.raises(ConfigError, match=r"'hidden_sise'.*'hidden_size'"):
        DiTConfig.from_architecture({"hidden_sise": 3})
    with pytest.raises(ConfigError, match=r"no field 'params_type'.*'params_dtype'"):
        DiTConfig.from_architecture(values, params_type=torch.bfloat16)


def test_pipeline_stages_compose_to_the_whole() -> None:
    """The first stage's tokens, given to the last stage, give the whole network's output."""
    whole, batch = make_net(), inputs()
    state = {k: v for k, v in whole.state_dict().items() if isinstance(v, torch.Tensor)}

    def stage(layer: int, pre_process: bool) -> DiT:
        config = DiTConfig.from_architecture({**whole.config.architecture(), "num_layers": 1})
        net = DiT(config, pre_process=pre_process, post_process=not pre_process)
        own = {k.replace(f"layers.{layer}.", "layers.0."): v for k, v in state.items()}
        net.load_state_dict({k: own[k] for k in net.state_dict() if k in own}, strict=False)
        return net

    first, last = stage(0, pre_process=True), stage(1, pre_process=False)
    assert not hasattr(first, "final_layer")
    assert not hasattr(last, "patch_embed")
    with pytest.raises(ConfigError, match="stage before"):
        last(NetworkInput(**batch))
    last.set_input_tensor([first(NetworkInput(**batch))])
    torch.testing.assert_close(last(NetworkInput(**batch)), whole(NetworkInput(**batch)))
