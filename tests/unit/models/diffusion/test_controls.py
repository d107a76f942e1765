from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn

from nemo_cosmos.controls import Control, ControlSpec, Signal, SignalArray, registry
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.build import WorldNetwork, build_network
from nemo_cosmos.models.diffusion.controls import (
    ControlEmbedder,
    ControlEmbedding,
    NetworkDims,
    TokenizerFacts,
    build_embedder,
    mask_embedding,
)
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.control_embedding import combine
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.process.training_step import DiffusionConfig
from nemo_cosmos.platform import ensure_model_parallel

DIMS = NetworkDims(hidden_size=32, context_size=16, temporal_factor=4, spatial_factor=8)


class SpeedEmbedder(ControlEmbedder):
    """A user's control: one file with a signal, an embedder and the two put together."""

    num_latent_channels = 2

    def __init__(self, hidden_size: int, gain: float = 1.0) -> None:
        super().__init__()
        self.project = nn.Linear(1, hidden_size)
        self.gain = gain

    @classmethod
    def build(cls, dims: NetworkDims, **options: Any) -> Self:
        return cls(dims.hidden_size, **options)

    def forward(
        self, batch: Mapping[str, Tensor], latent_shape_BCTHW: tuple[int, ...]
    ) -> ControlEmbedding:
        batch_size, _, *size_thw = latent_shape_BCTHW
        mean_B1 = self.gain * batch["speed"].mean(dim=1, keepdim=True)
        return ControlEmbedding(
            latent_channels_BCTHW=mean_B1.new_ones(batch_size, 2, *size_thw),
            timestep_BTD=self.project(mean_B1)[:, None],
        )


SPEED = Control(
    "speed",
    (Signal("speed.npy", (SignalArray("speed", "frame", ()),)),),
    {"diffusion": SpeedEmbedder},
)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "installed", lambda places: {"speed": f"{__name__}:SPEED"})


@pytest.mark.usefixtures("registered")
def test_a_registered_control_is_built_by_name_with_options() -> None:
    built = build_embedder(ControlSpec("speed", {"gain": 2.0}), DIMS)
    assert isinstance(built, SpeedEmbedder) and built.gain == 2.0
    assert built({"speed": torch.ones(1, 5)}, (1, 16, 2, 4, 4)).timestep_BTD.shape == (1, 1, 32)


@pytest.mark.usefixtures("registered")
def test_options_that_a_control_does_not_take() -> None:
    with pytest.raises(ConfigError, match="colour"):
        build_embedder(ControlSpec("speed", {"colour": "red"}), DIMS)


def make_network(*names: str, channels: int) -> WorldNetwork:
    ensure_model_parallel()
    config = DiTConfig(
        num_layers=1, hidden_size=24, num_attention_heads=2, crossattn_emb_channels=12,
        adaln_lora_dim=8, control_channels=channels, layer_spec="local",
    )  # fmt: skip
    specs = [ControlSpec(name) for name in names]
    return build_network(config, DiffusionConfig(), specs, TokenizerFacts(temporal_factor=4))


@pytest.mark.usefixtures("registered")
def test_a_model_has_any_number_of_controls_and_each_of_them_takes_effect() -> None:
    torch.manual_seed(0)
    net = make_network("action", "speed", channels=2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.2)
    names = {name.split(".")[1] for name in net.state_dict() if name.startswith("controls.")}
    assert names == {"action", "speed"}
    x_BCTHW, shape = torch.randn(1, 16, 3, 4, 4), (1, 16, 3, 4, 4)
    batch = {"action": torch.randn(1, 8, 7), "speed": torch.rand(1, 9)}

    def output(**changes: Tensor) -> Tensor:
        control = net.embed_controls({**batch, **changes}, shape)
        return net(NetworkInput(x_BCTHW, torch.zeros(1), torch.zeros(1, 4, 12), control=control))

    with torch.no_grad():
        assert not torch.allclose(output(), output(action=batch["action"].flip(1)))
        assert not torch.allclose(output(), output(speed=batch["speed"] + 1))


@pytest.mark.usefixtures("registered")
def test_controls_that_do_not_fit_the_network() -> None:
    with pytest.raises(ConfigError, match="'action', 'speed' add 2 latent channels"):
        make_network("action", "speed", channels=0)
    with pytest.raises(ConfigError, match="'action' twice"):
        make_network("action", "action", channels=0)


def test_a_network_without_controls_embeds_nothing() -> None:
    assert make_network(channels=0).embed_controls({}, (1, 16, 1, 4, 4)) is None


def test_levels_are_summed_and_channels_and_tokens_are_concatenated_in_order() -> None:
    whole_video = ControlEmbedding(
        latent_channels_BCTHW=torch.zeros(1, 1, 2, 4, 4),
        timestep_BTD=torch.ones(1, 1, 3),
        context_BLD=torch.zeros(1, 2, 3),
        tokens_BDthw=torch.ones(1, 3, 2, 2, 2),
    )
    each_frame = ControlEmbedding(
        latent_channels_BCTHW=torch.ones(1, 2, 2, 4, 4),
        timestep_BTD=torch.tensor([[[1.0] * 3, [2.0] * 3]]),
        adaln_lora_BT3D=torch.ones(1, 2, 9),
        context_BLD=torch.ones(1, 1, 3),
        tokens_BDthw=torch.ones(1, 3, 2, 2, 2),
    )
    both = combine([whole_video, each_frame])
    assert both.latent_channels_BCTHW is not None and both.timestep_BTD is not None
    assert both.context_BLD is not None and both.adaln_lora_BT3D is each_frame.adaln_lora_BT3D
    assert both.latent_channels_BCTHW[0, :, 0, 0, 0].tolist() == [0, 1, 1]
    assert both.timestep_BTD[0, :, 0].tolist() == [2, 3]
    assert both.context_BLD[0, :, 0].tolist() == [0, 0, 1]
    assert both.tokens_BDthw is not None and (both.tokens_BDthw == 2).all()


def test_masking_zeroes_every_part_of_the_dropped_samples() -> None:
    embedding = ControlEmbedding(
        latent_channels_BCTHW=torch.ones(2, 3, 1, 2, 2), timestep_BTD=torch.ones(2, 1, 4)
    )
    masked = mask_embedding(embedding, torch.tensor([0.0, 1.0]))
    assert masked.latent_channels_BCTHW is not None and masked.timestep_BTD is not None
    assert masked.latent_channels_BCTHW.sum(dim=(1, 2, 3, 4)).tolist() == [0, 12]
    assert masked.timestep_BTD[:, 0, 0].tolist() == [0, 1]
    assert masked.adaln_lora_BT3D is None and masked.context_BLD is None
