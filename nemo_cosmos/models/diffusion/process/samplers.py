"""Samplers: from noise to data along the probability-flow ODE, in float64.

Two are published with the Cosmos models. Both walk down the noise levels of
:func:`karras_sigmas` and ask a denoiser for the clean sample ``x0`` at each.

* ``edm_euler``: the Euler method of EDM (Karras et al., arXiv 2206.00364, algorithm 2 without
  churn). ``num_steps`` evaluations.
* ``res_2ab``: the two-step Adams-Bashforth form of the exponential integrator "refined exponential
  solver" (Zhang et al., arXiv 2308.02157), second order. The ODE is linear in x once time is
  ``lambda = -ln sigma``: dx/dlambda = -x + x0(x, lambda). Its linear part is solved exactly and x0
  is extrapolated linearly from the last two evaluations. ``num_steps`` + 1 evaluations, the last
  of which removes the noise that is left at ``sigma_min``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nemo_cosmos.errors import ConfigError, NumericsError, nearest_names
from nemo_cosmos.progress import Progress


class Denoiser(Protocol):
    """Estimates clean data from noisy data."""

    def __call__(self, x_BCTHW: Tensor, sigma_B: Tensor) -> Tensor:
        """Return x0_BCTHW for a noisy x_BCTHW at the noise levels sigma_B, all float32."""
        ...


Denoise64 = Callable[[Tensor, float], Tensor]
"""A denoiser as the solvers call it: float64 in and out, one noise level for the batch."""


SIGMA_MIN = 0.002
SIGMA_MAX = 80.0
RHO = 7.0


def karras_sigmas(
    num_points: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = RHO
) -> list[float]:
    """Return falling noise levels, evenly spaced in sigma^(1/rho) (EDM, equation 5).

    Args:
        num_points: number of levels, the two ends included; at least 2.
        sigma_min: the last level.
        sigma_max: the first level.
        rho: the larger, the more levels are spent on little noise.
    """
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [(high + i / (num_points - 1) * (low - high)) ** rho for i in range(num_points)]


def seeded_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Return standard normal float32 noise that is the same on every machine and device.

    It comes from NumPy's legacy generator, as in the reference, so that equal seeds give equal
    noise.
    """
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def euler_step(x: Tensor, x0: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """Move x from ``sigma`` to ``sigma_next`` with x0 held constant; exact where x0 is."""
    return x0 + (sigma_next / sigma) * (x - x0)


def phi1(z: float) -> float:
    """Return (e^z - 1) / z."""
    return math.expm1(z) / z


def phi2(z: float) -> float:
    """Return (phi1(z) - 1) / z."""
    return (phi1(z) - 1) / z


def res_2ab_step(
    x: Tensor, x0: Tensor, x0_last: Tensor, sigma: float, sigma_next: float, sigma_last: float
) -> Tensor:
    """Move x from ``sigma`` to ``sigma_next`` with x0 extrapolated linearly in -ln sigma.

    Args:
        x: the sample at ``sigma``.
        x0: the estimate at ``sigma``.
        x0_last: the estimate at ``sigma_last``, one step before.
        sigma: the present noise level.
        sigma_next: the wanted, lower noise level.
        sigma_last: the noise level one step before.
    """
    step = math.log(sigma / sigma_next)
    ratio = math.log(sigma_last / sigma) / step
    slope_weight = phi2(-step) / ratio
    return math.exp(-step) * x + step * ((phi1(-step) + slope_weight) * x0 - slope_weight * x0_last)


def _edm_euler(denoise: Denoise64, x: Tensor, sigmas: list[float]) -> Tensor:
    """Euler steps through all levels; the last one goes to noise level 0."""
    for sigma, sigma_next in itertools.pairwise([*sigmas, 0.0]):
        x = euler_step(x, denoise(x, sigma), sigma, sigma_next)
    return x


def _res_2ab(denoise: Denoise64, x: Tensor, sigmas: list[float]) -> Tensor:
    """One Euler step, then two-step exponential integration, then the clean estimate."""
    x0_last, sigma_last = None, 0.0
    for sigma, sigma_next in itertools.pairwise(sigmas):
        x0 = denoise(x, sigma)
        if x0_last is None:
            x = euler_step(x, x0, sigma, sigma_next)
        else:
            x = res_2ab_step(x, x0, x0_last, sigma, sigma_next, sigma_last)
        x0_last, sigma_last = x0, sigma
    return denoise(x, sigmas[-1])


@dataclass(frozen=True)
class _Solver:
    """A way down the noise levels.

    Attributes:
        run: walks through the levels.
        extra_levels: levels that n steps visit beyond n.
        min_steps: smallest number of steps.
    """

    run: Callable[[Denoise64, Tensor, list[float]], Tensor]
    extra_levels: int
    min_steps: int


SAMPLERS = {
    "edm_euler": _Solver(_edm_euler, extra_levels=0, min_steps=2),
    "res_2ab": _Solver(_res_2ab, extra_levels=1, min_steps=1),
}


@torch.no_grad()
def sample(
    denoise: Denoiser,
    noise_BCTHW: Tensor,
    *,
    sampler: str = "res_2ab",
    num_steps: int = 35,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    rho: float = RHO,
    progress: Progress | None = None,
) -> Tensor:
    """Draw data by walking from pure noise down to none.

    Args:
        denoise: the denoiser; see :class:`Denoiser`.
        noise_BCTHW: standard normal noise; its shape, device and dtype are those of the result.
        sampler: ``"res_2ab"`` or ``"edm_euler"``.
        num_steps: steps of the sampler.
        sigma_min: the lowest noise level that is visited.
        sigma_max: the level to start at.
        rho: spacing of the levels; see :func:`karras_sigmas`.
        progress: called after every evaluation of the denoiser.

    Returns:
        x0_BCTHW, at the scale of the denoiser's output.

    Raises:
        ConfigError: an unknown sampler or too few steps.
        NumericsError: the denoiser returned NaN or infinity.
    """
    if sampler not in SAMPLERS:
        raise ConfigError(
            f"There is no sampler '{sampler}'. The nearest are {nearest_names(sampler, SAMPLERS)}."
        )
    solver = SAMPLERS[sampler]
    if num_steps < solver.min_steps:
        raise ConfigError(
            f"{num_steps} sampling steps are too few: '{sampler}' needs {solver.min_steps} or "
            "more, and 35 are usual."
        )
    sigmas = karras_sigmas(num_steps + solver.extra_levels, sigma_min, sigma_max, rho)
    num_done = itertools.count(1)

    def denoise_float64(x: Tensor, sigma: float) -> Tensor:
        # The solver adds many small steps in float64; the network computes in its own type.
        sigma_B = torch.full((x.shape[0],), sigma, dtype=torch.float32, device=x.device)
        x0 = denoise(x.to(noise_BCTHW.dtype), sigma_B).to(torch.float64)
        if progress is not None:
            progress(next(num_done), len(sigmas))
        return x0

    x0_BCTHW = solver.run(denoise_float64, noise_BCTHW.to(torch.float64) * sigma_max, sigmas)
    if not x0_BCTHW.isfinite().all():
        raise NumericsError(
            f"Sampling with '{sampler}' and {num_steps} steps ended in NaN or infinity. The "
            "weights may be damaged or diverged, or the guidance too strong: try guidance 0 "
            "first, then float32 weights."
        )
    return x0_BCTHW.to(noise_BCTHW.dtype)
