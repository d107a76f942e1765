"""Embeddings of the diffusion transformer: patches, noise level and position.

Shape suffixes: B batch, C channels, T latent frames, H and W latent rows and columns, t h w the
same after patching, L = t*h*w tokens in that order, E model width. Tokens come first (L, B, E), as
Megatron-Core shards them.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from nemo_cosmos.models.common.norms import (
    ReplicatedLinear,
    RMSNorm,
    replicated_parameter,
)
from nemo_cosmos.models.diffusion.network.config import DiTConfig

# With ``passthrough_init``, a patch is about as loud as the learned positions, which have a root
# mean square of one and are added before each of a few layers.
_PATCH_GAIN = 4.0
# A trained network passes on its whole input at little noise, and nothing at much.
_PASSED_AT_FIRST = 0.5


class PatchEmbed(nn.Module):
    """Cut a latent video into patches and map each to a token."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.patch = (config.patch_temporal, config.patch_spatial, config.patch_spatial)
        self.proj = ReplicatedLinear(
            config.input_channels * config.patch_volume, config.hidden_size, config, on_share=False
        )
        if config.perform_initialization and config.passthrough_init:
            with torch.no_grad():
                self.proj.weight.copy_(_PATCH_GAIN * patch_basis(config).flatten(1))

    def forward(self, x_BCTHW: torch.Tensor) -> torch.Tensor:
        """Return tokens (L, B, E); a patch is flattened in (C, t, h, w) order."""
        batch, channels, *size = x_BCTHW.shape
        (t, pt), (h, ph), (w, pw) = (
            (length // patch, patch) for length, patch in zip(size, self.patch, strict=True)
        )
        patches = x_BCTHW.reshape(batch, channels, t, pt, h, ph, w, pw)
        patches = patches.permute(2, 4, 6, 0, 1, 3, 5, 7).flatten(4).flatten(0, 2)
        return self.proj(patches)


def patch_basis(config: DiTConfig) -> torch.Tensor:
    """Orthonormal directions in which the values of a patch enter the tokens of a fresh network.

    Where there is little noise, the network must return the negative of its input: the noise that
    the preconditioning's ``c_skip x`` leaves. A map of all a patch's values onto themselves is slow
    to find in random weights, and samples stay grainy until it is found. With ``passthrough_init``
    patches enter along these directions and the output reads along their negative.

    Returns:
        (E, C, t, h, w) with C input channels and a patch of t x h x w, on the CPU; the same on
        every rank, since the first pipeline stage embeds and the last reads.
    """
    num_values = config.input_channels * config.patch_volume
    basis = torch.empty(config.hidden_size, num_values, device="cpu")
    nn.init.orthogonal_(basis, generator=torch.Generator().manual_seed(0))
    return basis.unflatten(1, (config.input_channels, *config.patch_thw))


def passthrough_output(config: DiTConfig) -> torch.Tensor:
    """Weights (K, E) of the output that read the latent's patch along :func:`patch_basis`."""
    latent_ECTHW = patch_basis(config)[:, : config.out_channels]
    # The output's values are in (h, w, t, C) order; see :func:`unpatchify`.
    return -_PASSED_AT_FIRST * latent_ECTHW.permute(3, 4, 2, 1, 0).flatten(0, 3)


def unpatchify(
    x_LBK: torch.Tensor, grid_thw: tuple[int, int, int], patch_thw: tuple[int, int, int]
) -> torch.Tensor:
    """Put tokens back on the latent grid; a token is laid out in (h, w, t, C) order.

    Returns:
        (B, C, T, H, W).
    """
    (t, h, w), (pt, ph, pw) = grid_thw, patch_thw
    x = x_LBK.unflatten(0, (t, h, w)).unflatten(4, (ph, pw, pt, -1))
    x = x.permute(3, 7, 0, 6, 1, 4, 2, 5)  # B C t pt h ph w pw
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def sinusoid(c_noise: torch.Tensor, dim: int) -> torch.Tensor:
    """Cosines, then sines, of ``c_noise`` at ``dim / 2`` frequencies from 1 down to 1/10000.

    Args:
        c_noise: any shape, in float32.
        dim: length of the result's last axis.

    Returns:
        ``(*c_noise.shape, dim)`` in float32.
    """
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float32, device=c_noise.device) / half
    angles = c_noise.float()[..., None] * torch.exp(-math.log(10000.0) * exponent)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedding(nn.Module):
    """Embed the noise level, for each sample or for each latent frame.

    The result is the normalised sinusoid, from which every layer computes its own modulation, and a
    modulation that all layers share (AdaLN-LoRA, Cosmos paper section 5.2).
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.dim = config.hidden_size
        self.linear_1 = ReplicatedLinear(self.dim, self.dim, config)
        self.linear_2 = ReplicatedLinear(self.dim, 3 * self.dim, config)
        self.norm = RMSNorm(config, self.dim, eps=1e-6)
        if config.perform_initialization:
            nn.init.normal_(self.linear_1.weight, std=0.02)
            nn.init.normal_(self.linear_2.weight, std=0.02)

    def forward(
        self,
        c_noise_TB: torch.Tensor,
        control_emb_BTE: torch.Tensor | None = None,
        control_shared_BT3E: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed noise levels.

        Args:
            c_noise_TB: a quarter of the noise level's logarithm, (T or 1, B).
            control_emb_BTE: added to the sinusoid before it is normalised.
            control_shared_BT3E: added to the shared modulation.

        Returns:
            The embedding (T or 1, B, E) and the shared modulation (T or 1, B, 3E).
        """
        emb_TBE = sinusoid(c_noise_TB, self.dim).to(self.linear_1.weight.dtype)
        shared_TB3E = self.linear_2(F.silu(self.linear_1(emb_TBE)))
        if control_emb_BTE is not None:
            emb_TBE = emb_TBE + control_emb_BTE.transpose(0, 1).to(emb_TBE.dtype)
        if control_shared_BT3E is not None:
            shared_TB3E = shared_TB3E + control_shared_BT3E.transpose(0, 1).to(shared_TB3E.dtype)
        return self.norm(emb_TBE), shared_TB3E


class LearnedPositionEmbedding(nn.Module):
    """One learned vector for each position along each axis, summed and normalised.

    The sum is scaled to a root mean square of one; it is added to the tokens before every layer.
    """

    pos_emb_t: nn.Parameter
    pos_emb_h: nn.Parameter
    pos_emb_w: nn.Parameter

    def __init__(self, config: DiTConfig, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        width = config.hidden_size
        lengths = {
            "t": config.max_frames // config.patch_temporal,
            "h": config.max_height // config.patch_spatial,
            "w": config.max_width // config.patch_spatial,
        }
        for axis, length in lengths.items():
            table = replicated_parameter(torch.Size([length, width]), config, on_share=False)
            if config.perform_initialization:
                std = width**-0.5
                nn.init.trunc_normal_(table, std=std, a=-3 * std, b=3 * std)
            self.register_parameter(f"pos_emb_{axis}", table)

    def forward(
        self,
        grid_thw: tuple[int, int, int],
        origin_thw: tuple[int, int, int] = (0, 0, 0),
        period: int | None = None,
    ) -> torch.Tensor:
        """Return the embedding (L, 1, E) of a grid's tokens.

        Args:
            grid_thw: tokens along time, height and width.
            origin_thw: position of the first token.
            period: tokens after which time begins again, as with each of several views.
        """
        t, h, w = (
            slice(first, first + size) for first, size in zip(origin_thw, grid_thw, strict=True)
        )
        along_time = self.pos_emb_t[t]
        if period is not None:
            step_t = torch.arange(t.start, t.stop, device=self.pos_emb_t.device) % period
            along_time = self.pos_emb_t[step_t]
        emb = (
            along_time[:, None, None]
            + self.pos_emb_h[None, h, None]
            + self.pos_emb_w[None, None, w]
        ).flatten(0, 2)
        # eps is added to the root, not under it, as in the reference.
        norm = torch.linalg.vector_norm(emb, dim=-1, keepdim=True, dtype=torch.float32)
        rms = norm * emb.shape[-1] ** -0.5
        return (emb / (rms + self.eps)).to(emb.dtype)[:, None]
