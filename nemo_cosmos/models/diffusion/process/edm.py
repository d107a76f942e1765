"""The EDM diffusion process: preconditioning, noise levels and loss.

Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (EDM,
arXiv 2206.00364), as the Cosmos world models use it (Cosmos paper, section 5.1). Data are latents
scaled to standard deviation ``sigma_data``; a noisy sample is ``x = x0 + sigma * noise``; the
network F is asked for ``x0`` through

    D(x, sigma) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x, c_noise(sigma)).

Shape suffixes: B batch, C channels, T latent frames, H and W latent rows and columns. A noise level
is ``sigma_B``, one a sample, or ``sigma_BT``, one a latent frame; both broadcast over x_BCTHW.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nemo_cosmos.errors import ConfigError


@dataclass(frozen=True)
class EDMConfig:
    """The constants of the process; the defaults are those of the published models.

    Attributes:
        sigma_data: standard deviation of the data that the network sees.
        p_mean: mean of ln(sigma) in training.
        p_std: standard deviation of ln(sigma) in training.
        loss_scale: factor on the loss.
        adjust_video_noise: multiply the training sigma of a video by the square root of its number
            of latent frames: neighbouring frames are alike, so the same noise hides less (14B).
        learned_variance: weigh the loss by a learned function of the noise level
            (Karras et al., arXiv 2312.02696, equation 21); the network owns ``logvar``.
        motion_weight: how much more places count in the loss where the video moves
            (:mod:`~nemo_cosmos.models.diffusion.process.motion`); 0 counts all alike.
    """

    sigma_data: float = 0.5
    p_mean: float = 0.0
    p_std: float = 1.0
    loss_scale: float = 10.0
    adjust_video_noise: bool = False
    learned_variance: bool = False
    motion_weight: float = 0.0

    def __post_init__(self) -> None:
        for name in ("sigma_data", "p_std", "loss_scale"):
            value = getattr(self, name)
            if not value > 0:
                raise ConfigError(f"{name} is {value}; it must be a positive number.")
        if not self.motion_weight >= 0:
            raise ConfigError(f"motion_weight is {self.motion_weight}; it must be 0 or more.")


class Scaling(NamedTuple):
    """The four EDM coefficients; all but ``c_noise`` broadcast over x_BCTHW."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def broadcast_sigma(sigma: Tensor) -> Tensor:
    """Reshape ``sigma_B`` to (B,1,1,1,1), or ``sigma_BT`` to (B,1,T,1,1)."""
    if sigma.dim() == 1:
        return sigma[:, None, None, None, None]
    return sigma[:, None, :, None, None]


def scaling(sigma: Tensor, sigma_data: float) -> Scaling:
    """Return the preconditioning coefficients (EDM, table 1).

    Args:
        sigma: noise levels, (B,) or (B,T).
        sigma_data: standard deviation of the data.

    Returns:
        ``c_skip``, ``c_out`` and ``c_in`` shaped to broadcast over x_BCTHW, and ``c_noise`` of the
        shape of ``sigma``, which the network takes as its time.
    """
    wide = broadcast_sigma(sigma)
    variance = wide**2 + sigma_data**2
    return Scaling(
        c_skip=sigma_data**2 / variance,
        c_out=wide * sigma_data / variance.sqrt(),
        c_in=variance.rsqrt(),
        c_noise=sigma.log() / 4,
    )


def loss_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """Return 1 / c_out², which makes the expected loss of a fresh network equal at every sigma."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def training_sigma(normal_B: Tensor, num_latent_frames: int, config: EDMConfig) -> Tensor:
    """Turn standard normal numbers into training noise levels.

    Args:
        normal_B: a number drawn from N(0, 1) for each sample.
        num_latent_frames: T of the latents; used with ``config.adjust_video_noise`` only.
        config: the process constants.

    Returns:
        sigma_B, log-normally distributed.
    """
    sigma_B = (config.p_mean + config.p_std * normal_B).exp()
    return sigma_B * math.sqrt(num_latent_frames) if config.adjust_video_noise else sigma_B


def edm_loss(
    x0_pred_BCTHW: Tensor,
    x0_BCTHW: Tensor,
    sigma: Tensor,
    config: EDMConfig,
    *,
    counted_B1T11: Tensor | None = None,
    place_weight_BTHW: Tensor | None = None,
    logvar_B: Tensor | None = None,
) -> Tensor:
    """Return the weighted denoising error of every sample.

    Args:
        x0_pred_BCTHW: the denoiser's estimate.
        x0_BCTHW: the clean latents, scaled to ``sigma_data``.
        sigma: noise levels, (B,) or (B,T).
        config: the process constants.
        counted_B1T11: 1 where a latent frame counts, 0 where it was given as a condition. The mean
            runs over the counted frames, so the loss does not shrink with the number of conditions.
        place_weight_BTHW: weight of each place, with a mean of 1; None counts all alike.
        logvar_B: the learned log-variance of each sample's noise level; None leaves it out.

    Returns:
        loss_B, already multiplied by ``config.loss_scale``, float32.
    """
    error_BCTHW = (x0_pred_BCTHW.float() - x0_BCTHW.float()) ** 2
    if place_weight_BTHW is not None:
        error_BCTHW = error_BCTHW * place_weight_BTHW[:, None]
    weight = broadcast_sigma(loss_weight(sigma.float(), config.sigma_data))
    error_BT = (weight * error_BCTHW).mean(dim=(1, 3, 4))
    if counted_B1T11 is None:
        loss_B = error_BT.mean(dim=1)
    else:
        counted_BT = counted_B1T11[:, 0, :, 0, 0].float()
        loss_B = (error_BT * counted_BT).sum(dim=1) / counted_BT.sum(dim=1).clamp(min=1)
    if logvar_B is not None:
        loss_B = loss_B * torch.exp(-logvar_B.float()) + logvar_B.float()
    return loss_B * config.loss_scale


class LogVariance(nn.Module):
    """The log-variance of the loss as a learned function of the noise level.

    128 random Fourier features of c_noise and one linear map, zero at first (Karras et al., arXiv
    2312.02696, section 3).
    """

    freqs: Tensor
    phases: Tensor

    def __init__(self, num_features: int = 128) -> None:
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.randn(num_features))
        self.register_buffer("phases", 2 * math.pi * torch.rand(num_features))
        self.weight = nn.Parameter(torch.zeros(num_features))

    def forward(self, c_noise_B: Tensor) -> Tensor:
        """Return logvar_B for c_noise_B, float32."""
        angles = torch.outer(c_noise_B.float(), self.freqs.float()) + self.phases.float()
        return math.sqrt(2) * angles.cos() @ self.weight.float()
