"""Codes to pixels through a diffusion model, in place of their own tokenizer's decoder.

The model takes codes as its only control and makes latents of a continuous tokenizer. A video that
is longer than the model's own is decoded in chunks that share two latent frames, whose pixels are
blended linearly. A chunk's first latent frame gives one pixel frame, as that of every video.

Shape suffixes: B batch, C channels, T frames, H height, W width; of codes, T H W of their grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.family import get_family
from nemo_cosmos.models.common.generator import Shot
from nemo_cosmos.platform import num_processes

if TYPE_CHECKING:
    from nemo_cosmos.checkpoint.world.folder import World
    from nemo_cosmos.models.common.latents import LatentCodec, LatentGrid

SIGNAL = "discrete"
OVERLAP_LATENTS = 2
STEPS, GUIDANCE = 15, 1.8
SIGMA_MIN, SIGMA_MAX = 0.02, 8.0
"""Sampling of the published decoder; codes leave little open, so that little noise is enough."""


class DiffusionDecoder:
    """A discrete tokenizer whose codes a diffusion model decodes.

    A :class:`~nemo_cosmos.models.common.latents.LatentCodec`, so that a generator of codes takes it
    as its tokenizer.

    Args:
        tokenizer: the discrete tokenizer, which still encodes.
        world: the diffusion model, with the control ``discrete``.
        seed: seed of its noise: the same codes give the same pixels.

    Raises:
        ConfigError: the world decodes no codes, or another tokenizer's; or there are several
            processes.
    """

    def __init__(self, tokenizer: LatentCodec, world: World, seed: int = 0) -> None:
        _check_fits(tokenizer.config, world)
        self.tokenizer, self.world, self.seed = tokenizer, world, seed
        self._generator = get_family(world.config.family).make_generator(
            world.net, world.config.model, world.tokenizer, world.folder
        )
        guided = {"guidance": GUIDANCE, "guide_control": True}
        self._options = self._generator.options_class(
            steps=STEPS, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, **guided
        )

    @property
    def config(self) -> LatentGrid:
        """The discrete tokenizer's."""
        return self.tokenizer.config

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the shape of the codes of a video."""
        return self.tokenizer.latent_shape(num_frames, height, width)

    def encode(self, video_BCTHW: Tensor, /) -> Tensor:
        """Return codes_BTHW."""
        return self.tokenizer.encode(video_BCTHW)

    def decode(self, latents: Tensor, /) -> Tensor:
        """Return video_BCTHW in [-1, 1] of codes_BTHW."""
        return torch.cat([self._decode_one(codes_THW) for codes_THW in latents])

    def _decode_one(self, codes_THW: Tensor) -> Tensor:
        factor = self.config.temporal_factor
        longest = 1 + (int(self.world.config.video["num_frames"]) - 1) // factor
        starts = chunk_starts(len(codes_THW), longest)
        made = [
            self._chunk(codes_THW[start : start + longest].cpu().numpy(), number)
            for number, start in enumerate(starts)
        ]
        return blend(made, [start * factor for start in starts])

    def _chunk(self, codes_THW: np.ndarray, number: int) -> Tensor:
        frames, rows, columns = codes_THW.shape
        side = self.config.spatial_factor
        spec = self.world.config.text_encoder
        no_text = torch.zeros(1, spec["max_length"], spec["dim"])
        shot = Shot(
            text_BLD=no_text,
            negative_text_BLD=no_text,
            num_frames=self.config.num_pixel_frames(frames),
            height=rows * side,
            width=columns * side,
            fps=float(self.world.config.video["fps"]),
            seed=self.seed,
            options=self._options,
            controls={SIGNAL: codes_THW.astype(np.float32)},
            chunk=number,
        )
        self._generator.check(shot.num_frames, shot.height, shot.width, shot.options)
        return self._generator.generate(shot)


def chunk_starts(num_latents: int, longest: int, overlap: int = OVERLAP_LATENTS) -> list[int]:
    """Return the first latent frame of each chunk.

    The last chunk ends with the video, and may share more frames with the one before.

    Args:
        num_latents: latent frames of the video.
        longest: latent frames of a chunk.
        overlap: latent frames that neighbours share.

    Raises:
        ConfigError: a chunk has no frames of its own.
    """
    if num_latents <= longest:
        return [0]
    if longest <= overlap:
        raise ConfigError(
            f"The diffusion decoder makes {longest} latent frames at once, of which neighbouring "
            f"chunks share {overlap}. Train it on longer videos, or decode shorter ones."
        )
    last = num_latents - longest
    return [*range(0, last, longest - overlap), last]


def blend(chunks: Sequence[Tensor], starts: Sequence[int]) -> Tensor:
    """Join chunks along time; frames that two share go over linearly from one to the other.

    Args:
        chunks: video_BCTHW of each.
        starts: number of each one's first frame in the video.
    """
    video_BCTHW = chunks[0]
    for chunk_BCTHW, start in zip(chunks[1:], starts[1:], strict=True):
        shared = video_BCTHW.shape[2] - start
        share_T11 = torch.arange(1, shared + 1, device=chunk_BCTHW.device) / (shared + 1)
        share_T11 = share_T11.to(chunk_BCTHW.dtype)[:, None, None]
        old, new = video_BCTHW[:, :, start:], chunk_BCTHW[:, :, :shared]
        blended = old + share_T11 * (new - old)
        kept, further = video_BCTHW[:, :, :start], chunk_BCTHW[:, :, shared:]
        video_BCTHW = torch.cat([kept, blended, further], dim=2)
    return video_BCTHW


def _check_fits(codes: LatentGrid, world: World) -> None:
    controls = {spec.name: spec.options for spec in world.config.controls}
    if list(controls) != [SIGNAL]:
        raise ConfigError(
            f"'{world.folder}' decodes no codes: it is steered by {', '.join(controls) or 'no'} "
            "control. Name a diffusion decoder (recipe diffusion_nano_decoder)."
        )
    if num_processes() > 1:
        raise ConfigError(
            "A diffusion decoder runs in one process. Leave --diffusion-decoder out, or do not "
            "start several."
        )
    wanted = int(controls[SIGNAL]["num_codes"])
    if not codes.num_codes:
        raise ConfigError(
            "A diffusion decoder decodes codes, but this world's tokenizer is continuous and "
            "decodes its latents itself. Leave --diffusion-decoder out."
        )
    if wanted != codes.num_codes:
        raise ConfigError(
            f"'{world.folder}' decodes codes of a tokenizer of {wanted}, but this world's has "
            f"{codes.num_codes}. Train a decoder on the codes of this tokenizer."
        )
    other = world.tokenizer.config.temporal_factor
    if other != codes.temporal_factor:
        raise ConfigError(
            f"'{world.folder}' makes {other} frames of a latent one, this world's tokenizer "
            f"{codes.temporal_factor}. Train a decoder with a continuous tokenizer of that factor."
        )
