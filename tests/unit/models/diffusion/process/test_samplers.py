from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from nemo_cosmos.errors import ConfigError, NumericsError
from nemo_cosmos.models.diffusion.process.samplers import karras_sigmas, sample, seeded_noise

DATA_STD, DATA_MEAN = 0.5, 0.3
SHAPE = (1, 2, 2, 4, 4)


def gaussian_denoiser(x: Tensor, sigma_B: Tensor) -> Tensor:
    """E[x0 | x] for data N(DATA_MEAN, DATA_STD²), where the ODE has a closed form."""
    variance = sigma_B.view(-1, 1, 1, 1, 1) ** 2
    return (DATA_STD**2 * x + variance * DATA_MEAN) / (DATA_STD**2 + variance)


def gaussian_solution(x_max: Tensor, sigma_max: float, sigma: float) -> Tensor:
    """The probability-flow ODE keeps (x - mean) / std(sigma) constant."""
    scale = math.sqrt((DATA_STD**2 + sigma**2) / (DATA_STD**2 + sigma_max**2))
    return DATA_MEAN + (x_max - DATA_MEAN) * scale


def expected_clean(noise: Tensor, sigma_max: float, sigma_min: float) -> Tensor:
    at_min = gaussian_solution(noise * sigma_max, sigma_max, sigma_min)
    return gaussian_denoiser(at_min, torch.tensor([sigma_min], dtype=noise.dtype))


def res_reference(denoise, x: np.ndarray, num_steps: int) -> np.ndarray:
    """RES 2ab written out from arXiv 2308.02157: variation of constants in lambda = -ln sigma.

    x(t) = e^{-h} x(s) + integral over u in [0, h] of e^{-(h-u)} x0(u) du, with x0(u) the straight
    line through the last two estimates; the two integrals are taken by Gauss-Legendre quadrature
    instead of the phi functions.
    """
    i = np.arange(num_steps + 1)
    sigmas = (80 ** (1 / 7) + i / num_steps * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    nodes, weights = np.polynomial.legendre.leggauss(40)
    last = None
    for sigma, sigma_next in itertools.pairwise(sigmas):
        x0 = denoise(x, sigma)
        h = np.log(sigma) - np.log(sigma_next)
        u, w = (nodes + 1) * h / 2, weights * h / 2
        kernel = w * np.exp(-(h - u))
        slope = 0.0 if last is None else (x0 - last[0]) / (np.log(last[1]) - np.log(sigma))
        x = np.exp(-h) * x + kernel.sum() * x0 + (kernel * u).sum() * slope
        last = (x0, sigma)
    return denoise(x, sigmas[-1])


def test_res_2ab_equals_its_formula_on_a_nonlinear_denoiser() -> None:
    noise = seeded_noise(SHAPE, seed=1).double()
    result = sample(lambda x, s: torch.tanh(x) / (1 + s.view(-1, 1, 1, 1, 1)).double(), noise)
    expected = res_reference(
        lambda x, s: np.tanh(x) / (1 + np.float64(np.float32(s))), noise.numpy() * 80, 35
    )
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("sampler", "order"), [("edm_euler", 1), ("res_2ab", 2)])
def test_convergence_order_on_gaussian_data(sampler: str, order: int) -> None:
    noise = seeded_noise(SHAPE, seed=2).double()
    exact = expected_clean(noise, 80.0, 0.02)
    errors = [
        (sample(gaussian_denoiser, noise, sampler=sampler, num_steps=n, sigma_min=0.02) - exact)
        .abs()
        .max()
        .item()
        for n in (40, 80, 160)
    ]
    observed = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert observed[-1] == pytest.approx(order, abs=0.25), (errors, observed)


def test_res_2ab_is_closer_than_euler_with_the_same_steps() -> None:
    noise = seeded_noise(SHAPE, seed=5).double()
    exact = expected_clean(noise, 80.0, 0.002)
    error = {
        name: (sample(gaussian_denoiser, noise, sampler=name) - exact).abs().max().item()
        for name in ("edm_euler", "res_2ab")
    }
    assert error["res_2ab"] < 0.3 * error["edm_euler"]


def test_levels_fall_from_max_to_min() -> None:
    sigmas = karras_sigmas(36)
    assert sigmas[0] == pytest.approx(80) and sigmas[-1] == pytest.approx(0.002)
    assert all(a > b for a, b in itertools.pairwise(sigmas))


def test_res_2ab_starts_at_sigma_max_and_ends_with_a_clean_step() -> None:
    seen: list[float] = []
    steps: list[tuple[int, int]] = []

    def denoise(x: Tensor, sigma_B: Tensor) -> Tensor:
        seen.append(sigma_B.item())
        assert x.dtype == torch.float32
        return torch.full_like(x, 0.25)

    noise = seeded_noise(SHAPE, seed=1)
    result = sample(denoise, noise, num_steps=5, progress=lambda i, n: steps.append((i, n)))
    assert seen[0] == pytest.approx(80) and seen[-1] == pytest.approx(0.002) and len(seen) == 6
    assert steps == [(i, 6) for i in range(1, 7)]
    assert torch.equal(result, torch.full(SHAPE, 0.25))


def test_a_seed_gives_the_noise_of_the_reference() -> None:
    expected = np.random.RandomState(1).standard_normal((2, 3)).astype(np.float32)
    assert np.array_equal(seeded_noise((2, 3), seed=1).numpy(), expected)
    assert not torch.equal(seeded_noise((2, 3), seed=2), seeded_noise((2, 3), seed=1))


def test_unknown_sampler_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'res_2ab'"):
        sample(gaussian_denoiser, torch.zeros(SHAPE), sampler="res_2abc")


@pytest.mark.parametrize(("sampler", "num_steps"), [("edm_euler", 1), ("res_2ab", 0)])
def test_too_few_steps(sampler: str, num_steps: int) -> None:
    with pytest.raises(ConfigError, match="too few"):
        sample(gaussian_denoiser, torch.zeros(SHAPE), sampler=sampler, num_steps=num_steps)


def test_non_finite_denoiser_is_an_error() -> None:
    with pytest.raises(NumericsError, match="NaN"):
        sample(lambda x, _: x * float("nan"), torch.zeros(SHAPE), num_steps=3)
