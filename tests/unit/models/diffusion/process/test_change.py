"""Learning the change since the first frame: what the network is to find, and what comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.generator import Shot
from nemo_cosmos.models.diffusion.build import WorldNetwork, build_network
from nemo_cosmos.models.diffusion.generator import DiffusionGenerator
from nemo_cosmos.models.diffusion.options import DiffusionOptions
from nemo_cosmos.models.diffusion.process.change import (
    base_of_change,
    change_of_pictures,
    changing_frames,
    first_frames,
)
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.training_step import prepare_step
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.testing.tiny import tiny_network, tiny_tokenizer

CHANGE = DiffusionConfig(conditioning=ConditioningConfig(1, 1, predicts_change=True))


def test_frames_change_from_the_first_of_their_own_view() -> None:
    latent_BCTHW = torch.arange(6.0).reshape(1, 1, 6, 1, 1)
    given_BT = torch.tensor([[1, 0, 0, 0, 0, 0]])  # the second view is given nothing
    changing_BT = changing_frames(given_BT, num_views=2)
    assert changing_BT.tolist() == [[False, True, True, False, False, False]]
    first_BCTHW = first_frames(latent_BCTHW + 7, num_views=2)
    assert first_BCTHW.flatten().tolist() == [7, 7, 7, 10, 10, 10]
    assert base_of_change(first_BCTHW, changing_BT).flatten().tolist() == [0, 7, 7, 0, 0, 0]


def test_a_video_that_stands_still_leaves_nothing_to_explain() -> None:
    latent_BCTHW = torch.randn(2, 16, 1, 4, 4).expand(-1, -1, 3, -1, -1)
    batch = {"latent": latent_BCTHW, "t5_text_embeddings": torch.zeros(2, 2, 8)}
    step = prepare_step(batch, ["a", "b"], seed=1, step=2, config=CHANGE)
    x0_BCTHW = step.x0_BCTHW / CHANGE.edm.sigma_data
    torch.testing.assert_close(x0_BCTHW[:, :, 0], latent_BCTHW[:, :, 0])
    assert not x0_BCTHW[:, :, 1:].any()


class Watched:
    """A tokenizer that keeps the latents it decodes."""

    def __init__(self) -> None:
        self.tokenizer = tiny_tokenizer()
        self.encode, self.latent_shape = self.tokenizer.encode, self.tokenizer.latent_shape
        self.decoded: list[torch.Tensor] = []

    def decode(self, latents_BCTHW: torch.Tensor) -> torch.Tensor:
        self.decoded.append(latents_BCTHW)
        return self.tokenizer.decode(latents_BCTHW)


def without_foresight() -> WorldNetwork:
    """A network whose output is 0: the data's mean at any noise."""
    ensure_model_parallel()
    net = build_network(tiny_network(num_layers=1), CHANGE).eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter.zero_()
    return net


def shot_of(steps: int) -> Shot:
    given_BCTHW = torch.rand(1, 3, 1, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    quick, text_BLD = DiffusionOptions(steps=steps, guidance=0.0), torch.ones(1, 4, 12)
    return Shot(text_BLD, 0 * text_BLD, 9, 32, 48, 10.0, 3, quick, given_BCTHW=given_BCTHW)


def test_a_network_that_foresees_no_change_repeats_the_first_frame() -> None:
    net, shot, codec = without_foresight(), shot_of(steps=2), Watched()

    def later(process: DiffusionConfig) -> torch.Tensor:
        codec.decoded.clear()
        DiffusionGenerator(net, process, codec).generate(shot)
        return codec.decoded[0][:, :, 1:]

    first_BCTHW = codec.encode(shot.given_BCTHW).expand(-1, -1, 2, -1, -1)
    plain = later(replace(CHANGE, conditioning=ConditioningConfig(1, 1)))
    # The noise that no network takes away is the same; the first frame is all that differs.
    torch.testing.assert_close(later(CHANGE) - plain, first_BCTHW, rtol=0, atol=1e-4)
    assert first_BCTHW.abs().amax() > 0.3, "or both would be the same"


def test_what_stands_still_is_as_sharp_as_it_was_given() -> None:
    codec, shot = Watched(), shot_of(steps=1)  # one step leaves next to no noise
    given_BCTHW = shot.given_BCTHW
    lost_BCTHW = (codec.decode(codec.encode(given_BCTHW)) - given_BCTHW).abs()
    assert lost_BCTHW.amax() > 0.3, "a tokenizer that loses nothing would show nothing"
    video_BCTHW = DiffusionGenerator(without_foresight(), CHANGE, codec).generate(shot)
    assert (video_BCTHW - given_BCTHW).abs().amax() < 0.05


def test_pictures_change_as_the_decoded_video_does_in_each_view() -> None:
    still_BCTHW = torch.full((1, 3, 4, 2, 2), 0.5)  # two views of two frames
    video_BCTHW = still_BCTHW.clone()
    video_BCTHW[:, :, [1, 3]] += 0.25
    first_BCTHW = torch.full((1, 3, 1, 2, 2), 0.9)
    made_BCTHW = change_of_pictures(video_BCTHW, still_BCTHW, [first_BCTHW, None])
    # The first view begins with its picture and stays within [-1, 1]; the second was given none.
    torch.testing.assert_close(made_BCTHW[0, 0, :, 0, 0], torch.tensor([0.9, 1.0, 0.5, 0.75]))


def test_a_model_that_is_given_no_frame_cannot_predict_changes() -> None:
    with pytest.raises(ConfigError, match="given no frame has nothing that could change"):
        ConditioningConfig(predicts_change=True)


def test_a_world_of_an_earlier_release_predicts_pictures() -> None:
    content = DiffusionConfig(conditioning=ConditioningConfig(1)).to_dict()
    del content["conditioning"]["predicts_change"]
    assert DiffusionConfig.from_dict(content) == DiffusionConfig(conditioning=ConditioningConfig(1))
