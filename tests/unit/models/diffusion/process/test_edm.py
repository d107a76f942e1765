from __future__ import annotations

import math

import pytest
import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.process.edm import (
    EDMConfig,
    edm_loss,
    loss_weight,
    scaling,
    training_sigma,
)


def test_network_input_and_target_have_unit_variance_at_every_sigma() -> None:
    """The property that EDM derives its coefficients from (appendix B.6)."""
    sigma_B = torch.tensor([0.002, 0.5, 1.0, 80.0], dtype=torch.float64)
    c_skip, c_out, c_in, c_noise = scaling(sigma_B, 0.5)
    input_variance = c_in.view(-1) ** 2 * (0.25 + sigma_B**2)
    # F must output (x0 - c_skip x) / c_out with x = x0 + sigma n.
    target_variance = (
        (1 - c_skip.view(-1)) ** 2 * 0.25 + c_skip.view(-1) ** 2 * sigma_B**2
    ) / c_out.view(-1) ** 2
    torch.testing.assert_close(input_variance, torch.ones_like(sigma_B))
    torch.testing.assert_close(target_variance, torch.ones_like(sigma_B))
    torch.testing.assert_close(c_noise, sigma_B.log() / 4)
    torch.testing.assert_close(loss_weight(sigma_B, 0.5), c_out.view(-1) ** -2)


def test_sigma_per_frame_broadcasts_over_frames() -> None:
    x_BCTHW = torch.randn(2, 3, 4, 2, 2)
    sigma_BT = torch.rand(2, 4) + 0.1
    per_frame = scaling(sigma_BT, 0.5)
    assert (per_frame.c_in * x_BCTHW).shape == x_BCTHW.shape
    assert per_frame.c_noise.shape == (2, 4)
    one = scaling(sigma_BT[:, 2], 0.5)
    torch.testing.assert_close(per_frame.c_skip[:, :, 2], one.c_skip[:, :, 0])


def test_training_sigma_is_log_normal() -> None:
    normal_B = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    log_sigma = training_sigma(normal_B, 1, EDMConfig(p_mean=-1.2, p_std=1.5)).log()
    assert log_sigma.mean().item() == pytest.approx(-1.2, abs=0.05)
    assert log_sigma.std().item() == pytest.approx(1.5, abs=0.05)


def test_video_noise_grows_with_the_root_of_the_frames() -> None:
    normal_B = torch.randn(4)
    plain = training_sigma(normal_B, 16, EDMConfig())
    adjusted = training_sigma(normal_B, 16, EDMConfig(adjust_video_noise=True))
    torch.testing.assert_close(adjusted, 4 * plain)


def test_loss_of_a_zero_network_is_the_loss_scale_at_every_sigma() -> None:
    """A fresh network outputs 0, so D(x) = c_skip x, whose weighted error is 1 on average."""
    generator = torch.Generator().manual_seed(0)
    x0 = 0.5 * torch.randn(5, 16, 4, 32, 32, generator=generator)
    sigma_B = torch.tensor([0.02, 0.2, 1.0, 5.0, 60.0])
    noise = torch.randn(x0.shape, generator=generator)
    noisy = x0 + sigma_B.view(-1, 1, 1, 1, 1) * noise
    c_skip = scaling(sigma_B, 0.5).c_skip
    loss_B = edm_loss(c_skip * noisy, x0, sigma_B, EDMConfig())
    torch.testing.assert_close(loss_B, torch.full((5,), 10.0), rtol=0.02, atol=0)


def test_uncounted_frames_do_not_matter() -> None:
    x0 = torch.randn(2, 4, 3, 2, 2)
    prediction = x0 + 0.1
    counted = torch.ones(2, 1, 3, 1, 1)
    counted[0, :, :2] = 0
    spoiled = prediction.clone()
    spoiled[0, :, :2] = 1e6
    sigma_B = torch.tensor([1.0, 2.0])
    config = EDMConfig()
    whole = edm_loss(prediction, x0, sigma_B, config)
    masked = edm_loss(spoiled, x0, sigma_B, config, counted_B1T11=counted)
    torch.testing.assert_close(masked, whole)


def test_learned_variance_is_lowest_at_the_log_of_the_error() -> None:
    x0 = torch.randn(1, 4, 3, 2, 2)
    sigma_B = torch.tensor([1.0])
    config = EDMConfig(loss_scale=1.0)
    plain = edm_loss(x0 + 0.3, x0, sigma_B, config)
    best = plain.log()
    losses = [
        edm_loss(x0 + 0.3, x0, sigma_B, config, logvar_B=best + shift).item()
        for shift in (-0.5, 0.0, 0.5)
    ]
    assert losses[1] < losses[0] and losses[1] < losses[2]
    assert losses[1] == pytest.approx(1 + math.log(plain.item()), rel=1e-5)


@pytest.mark.parametrize("name", ["sigma_data", "p_std", "loss_scale"])
def test_impossible_constants_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        EDMConfig(**{name: 0.0})
