"""Our EDM-Euler sampler beside diffusers' EDMEulerScheduler, on a shared trajectory."""

from __future__ import annotations

import pytest
import torch
from diffusers import EDMEulerScheduler

from nemo_cosmos.models.diffusion.edm import scaling
from nemo_cosmos.models.diffusion.samplers import karras_sigmas, sample, seeded_noise

SIGMA_DATA = 0.5
SHAPE = (2, 4, 3, 6, 6)


def network(scaled_x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
    """Any smooth non-linear function of the two inputs that a network has."""
    return torch.sin(2 * scaled_x + c_noise.view(-1, 1, 1, 1, 1)) + 0.3 * scaled_x.roll(1, dims=2)


def denoise(x: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
    c_skip, c_out, c_in, c_noise = scaling(sigma_B, SIGMA_DATA)
    return c_skip * x + c_out * network(c_in * x, c_noise)


def diffusers_trajectory(noise: torch.Tensor, num_steps: int) -> list[torch.Tensor]:
    """The samples after every step of the reference, run as diffusers' Cosmos pipeline does."""
    scheduler = EDMEulerScheduler(
        sigma_min=0.002, sigma_max=80.0, sigma_data=SIGMA_DATA, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(num_steps)
    x = noise * scheduler.config.sigma_max
    trajectory = []
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(x, t), t.expand(x.shape[0]))
        x = scheduler.step(output, t, x, return_dict=False)[0]
        trajectory.append(x)
    return trajectory


def test_noise_levels_are_those_of_diffusers() -> None:
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=SIGMA_DATA)
    scheduler.set_timesteps(35)
    ours = torch.tensor(karras_sigmas(35), dtype=torch.float64)
    torch.testing.assert_close(ours, scheduler.sigmas[:-1].double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("num_steps", [5, 10, 35])
def test_every_step_of_edm_euler_equals_diffusers(num_steps: int) -> None:
    noise = seeded_noise(SHAPE, seed=3)
    expected = diffusers_trajectory(noise, num_steps)
    visited: list[torch.Tensor] = []

    def recording(x: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        visited.append(x)
        return denoise(x, sigma_B)

    result = sample(recording, noise, sampler="edm_euler", num_steps=num_steps)
    for ours, theirs in zip([*visited[1:], result], expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
