"""Our EDM-Euler sampler and Video2World conditioning beside diffusers, on a shared trajectory."""

from __future__ import annotations

import pytest
import torch
from diffusers import EDMEulerScheduler

from nemo_cosmos.models.diffusion.process.conditioning import FrameCondition, guide
from nemo_cosmos.models.diffusion.process.edm import scaling
from nemo_cosmos.models.diffusion.process.samplers import karras_sigmas, sample, seeded_noise

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


def video2world_of_diffusers(
    noise: torch.Tensor, given: torch.Tensor, indicator: torch.Tensor, augment_sigma: float
) -> torch.Tensor:
    """The denoising loop of diffusers' CosmosVideoToWorldPipeline, written out.

    The pipeline draws new augmentation noise at every step; the reference that it ports, and this,
    keep the same noise.
    """
    scheduler = EDMEulerScheduler(
        sigma_min=0.002, sigma_max=80.0, sigma_data=SIGMA_DATA, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(12)
    latents = noise * scheduler.config.sigma_max
    augment = torch.tensor([augment_sigma])
    for index, t in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[index]
        current = indicator * 0 if augment >= sigma else indicator
        shown = given + noise * augment
        shown = shown * scheduler._get_conditioning_c_in(augment)
        shown = shown / scheduler._get_conditioning_c_in(sigma)
        mixed = scheduler.scale_model_input(current * shown + (1 - current) * latents, t)
        estimates = []
        for shift in (0.0, 0.4):  # the two branches of guidance
            output = network(mixed + shift, t.expand(noise.shape[0]))
            x0 = scheduler.step(output, t, latents, return_dict=False)[1]
            scheduler._step_index -= 1
            estimates.append(current * given + (1 - current) * x0)
        guided = estimates[0] + 7.0 * (estimates[0] - estimates[1])
        latents = scheduler.step(
            guided, t, latents, return_dict=False, pred_original_sample=guided
        )[0]
    return latents


@pytest.mark.parametrize("augment_sigma", [0.001, 0.5])
def test_video2world_equals_the_loop_of_diffusers(augment_sigma: float) -> None:
    noise, given = seeded_noise(SHAPE, seed=3), 0.5 * seeded_noise(SHAPE, seed=4)
    condition = FrameCondition.first_frames(
        given, torch.tensor([1, 1]), noise, torch.full((2,), augment_sigma)
    )

    def guided(x: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        frames = condition.at(sigma_B)
        composed = frames.compose(x, sigma_B, SIGMA_DATA)
        c_skip, c_out, c_in, c_noise = scaling(sigma_B, SIGMA_DATA)
        # Outside the given frames the composed input is x itself.
        cond, uncond = (
            frames.keep(c_skip * composed + c_out * network(c_in * composed + shift, c_noise))
            for shift in (0.0, 0.4)
        )
        return guide(cond, (7.0, uncond))

    ours = sample(guided, noise, sampler="edm_euler", num_steps=12)
    theirs = video2world_of_diffusers(noise, given, condition.given_B1T11, augment_sigma)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
