"""The loss counts places by how much they move, and counts as much in all as without that."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import EDMConfig
from nemo_cosmos.models.diffusion.process.motion import motion_weights, relative_motion
from nemo_cosmos.models.diffusion.process.step_noise import draw_step_noise
from nemo_cosmos.models.diffusion.process.training_step import make_training_step

STILL, MOVED = 0, 1
"""Columns of the picture: one stands still, one moves."""


def make_latent() -> torch.Tensor:
    """Three frames of 1x2 places; one place moves by 1, then by 3."""
    latent_BCTHW = torch.zeros(1, 16, 3, 1, 2)
    latent_BCTHW[:, :, 1, :, MOVED], latent_BCTHW[:, :, 2, :, MOVED] = 1.0, -3.0
    return latent_BCTHW


def test_what_moves_counts_more_and_all_together_as_much() -> None:
    relative_BTHW = relative_motion(make_latent())
    assert relative_BTHW[0, :, 0].tolist() == [[1, 1], [0, 1], [0, 3]]
    much = torch.tensor([1e4])
    weight_BTHW = motion_weights(relative_BTHW, much, EDMConfig(motion_weight=4.0))
    torch.testing.assert_close(weight_BTHW[0, :, 0], torch.tensor([[1, 1], [0.2, 1], [0.2, 2.6]]))
    torch.testing.assert_close(weight_BTHW[:, 1:].mean(), torch.tensor(1.0))
    half = motion_weights(relative_BTHW, torch.tensor([0.5]), EDMConfig(motion_weight=8.0))
    torch.testing.assert_close(half, weight_BTHW)
    none = torch.tensor([1e-4])
    little = motion_weights(relative_BTHW, none, EDMConfig(motion_weight=4.0))
    torch.testing.assert_close(little, torch.ones_like(little), rtol=0, atol=1e-5)


def test_every_view_moves_from_its_own_first_frame() -> None:
    other = make_latent() + 7.0  # another camera's pictures differ; that is no motion
    relative_BTHW = relative_motion(torch.cat([make_latent(), other], dim=2), num_views=2)
    assert torch.equal(relative_BTHW, relative_motion(make_latent()).repeat(1, 2, 1, 1))


@pytest.mark.parametrize("frames", [1, 3])
def test_a_picture_and_a_video_that_stands_still_count_everywhere_alike(frames: int) -> None:
    relative_BTHW = relative_motion(torch.ones(2, 16, frames, 4, 4, dtype=torch.bfloat16))
    assert relative_BTHW.shape == (2, frames, 4, 4)
    assert relative_BTHW.unique().tolist() == [1.0]


def test_an_error_where_nothing_moves_costs_less_than_one_in_the_motion() -> None:
    latent_BCTHW = make_latent()
    batch = {"latent": latent_BCTHW, "t5_text_embeddings": torch.zeros(1, 2, 8)}
    plain = DiffusionConfig(conditioning=ConditioningConfig(1, 1))

    def losses(motion_weight: float) -> list[float]:
        """Of a network whose estimate is wrong in one column, where noise hides everything."""
        config = replace(plain, edm=EDMConfig(motion_weight=motion_weight, p_mean=9.0))
        noise = draw_step_noise(latent_BCTHW.shape, ["a"], 1, 0, config)
        step = make_training_step(batch, noise, config)
        perfect = (step.x0_BCTHW - step.composed_BCTHW * c_skip(step.sigma_B)) / c_out(step.sigma_B)
        wrong = torch.zeros_like(perfect)
        wrong[..., STILL] = 1
        return [step.loss(perfect + wrong).item(), step.loss(perfect + wrong.flip(-1)).item()]

    still, moved = losses(0.0)
    assert still == pytest.approx(moved)
    weighed_still, weighed_moved = losses(4.0)
    assert weighed_still == pytest.approx(0.2 * still) and weighed_moved == pytest.approx(
        1.8 * moved
    )


def c_skip(sigma_B: torch.Tensor) -> torch.Tensor:
    return (0.25 / (sigma_B**2 + 0.25)).view(-1, 1, 1, 1, 1)


def c_out(sigma_B: torch.Tensor) -> torch.Tensor:
    return (sigma_B * 0.5 / (sigma_B**2 + 0.25).sqrt()).view(-1, 1, 1, 1, 1)


def test_worlds_of_earlier_releases_have_no_motion_weight() -> None:
    record = DiffusionConfig().to_dict()
    del record["edm"]["motion_weight"]
    assert DiffusionConfig.from_dict(record).edm.motion_weight == 0
    with pytest.raises(ConfigError, match="motion_weight is -1"):
        EDMConfig(motion_weight=-1)
