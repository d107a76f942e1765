"""The configuration of a Cosmos tokenizer, and the videos that it takes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    WrongFrameCountError,
    WrongSizeError,
    nearest_names,
)


@dataclass(frozen=True)
class TokenizerConfig:
    """The shape of one tokenizer; sizes are data, never classes.

    Attributes:
        name: key in :data:`nemo_cosmos.models.tokenizer.presets.TOKENIZERS`, or a name of its own.
        kind: "image" for networks that treat each frame alone, "video" for causal ones.
        discrete: whether latents are quantised to integer codes (FSQ) or stay continuous.
        spatial_factor: pixels per latent along height and along width.
        temporal_factor: frames per latent frame after the first; 1 for images.
        channels: base width of the network.
        channels_mult: width of each level as a multiple of ``channels``.
        num_res_blocks: residual blocks of each level of the encoder; the decoder has one more.
        patch_size: side of the Haar wavelet patch, in pixels (and frames).
        high_band_gain: factor on all wavelet bands except the mean, undone after the decoder; 1 in
            the reference. With more, the fine bands, whose values are small, weigh more in the
            first convolution and suffer less from the noise of large learning rates in the last.
            A small network that trains for minutes needs that.
        z_channels: width between encoder and ``quant_conv``.
        latent_channels: channels of a continuous latent.
        fsq_levels: quantisation levels of each of a discrete latent's channels.
        pixel_channels: 3 for RGB.
        dropout: probability inside the residual blocks.
        training_frames: length of the clips that the published weights were trained on.
    """

    name: str
    kind: Literal["image", "video"]
    discrete: bool
    spatial_factor: int
    temporal_factor: int = 1
    channels: int = 128
    channels_mult: tuple[int, ...] = (2, 4, 4)
    num_res_blocks: int = 2
    patch_size: int = 4
    high_band_gain: float = 1.0
    z_channels: int = 16
    latent_channels: int = 16
    fsq_levels: tuple[int, ...] = (8, 8, 8, 5, 5, 5)
    pixel_channels: int = 3
    dropout: float = 0.0
    training_frames: int = 1

    def __post_init__(self) -> None:
        for field in ("spatial_factor", "temporal_factor", "patch_size"):
            value = getattr(self, field)
            if value < 1 or value & (value - 1):
                raise ConfigError(
                    f"Tokenizer '{self.name}' has {field}={value}; it must be a power of two "
                    "(1, 2, 4, 8, 16). Correct it in the preset."
                )
        if self.kind == "image" and self.temporal_factor != 1:
            raise ConfigError(
                f"Image tokenizer '{self.name}' has temporal_factor={self.temporal_factor}; images "
                "have no time to compress. Set it to 1, or kind='video'."
            )
        if not self._fits_levels():
            raise ConfigError(
                f"Tokenizer '{self.name}' cannot reach {self.spatial_factor}x in space and "
                f"{self.temporal_factor}x in time with patch_size={self.patch_size} and "
                f"{len(self.channels_mult)} levels. Each halving beyond the patch needs a level "
                "of its own, and no factor may be below the patch; change channels_mult or "
                "patch_size."
            )

    def _fits_levels(self) -> bool:
        if self.kind == "image":
            return 0 <= self.num_spatial_steps <= len(self.channels_mult)
        steps = (self.num_spatial_steps, self.num_temporal_steps)
        return min(steps) >= 0 and max(steps) < len(self.channels_mult)

    @property
    def num_spatial_steps(self) -> int:
        """Halvings of height and width beyond the wavelet patch."""
        return self.spatial_factor.bit_length() - self.patch_size.bit_length()

    @property
    def num_temporal_steps(self) -> int:
        """Halvings of time beyond the wavelet patch; 0 for images."""
        if self.kind == "image":
            return 0
        return self.temporal_factor.bit_length() - self.patch_size.bit_length()

    def decoder_doubles(self, depth: int) -> tuple[bool, bool]:
        """Whether a video decoder doubles space and time at the ``depth``-th level from the bottom.

        The rule of the reference: time one level later than a mirror of the encoder would, and
        space with it, unless space has more steps than time.
        """
        num_spatial, num_temporal = self.num_spatial_steps, self.num_temporal_steps
        temporal = 0 < depth < num_temporal + 1
        spatial = temporal or (depth < num_spatial and num_spatial > num_temporal)
        return spatial, temporal

    @property
    def code_channels(self) -> int:
        """Channels between ``quant_conv`` and ``post_quant_conv``."""
        return len(self.fsq_levels) if self.discrete else self.latent_channels

    @property
    def num_codes(self) -> int:
        """Codes of a discrete tokenizer; 0 where latents are continuous."""
        return math.prod(self.fsq_levels) if self.discrete else 0

    @property
    def patch_channels(self) -> int:
        """Channels of the wavelet patches that enter the first convolution."""
        return self.pixel_channels * self.patch_size ** (2 if self.kind == "image" else 3)

    def num_latent_frames(self, num_frames: int) -> int:
        """Latent frames of a legal number of frames: 1 + (T - 1) / f."""
        self.check_num_frames(num_frames)
        return 1 + (num_frames - 1) // self.temporal_factor

    def num_pixel_frames(self, num_latent_frames: int) -> int:
        """Frames that ``num_latent_frames`` latents decode to: 1 + f (t - 1)."""
        return 1 + self.temporal_factor * (num_latent_frames - 1)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (C,t,h,w) of the latents of one video; C is 1 code index where discrete.

        Raises:
            WrongFrameCountError: ``num_frames`` is not 1 + f n.
            WrongSizeError: ``height`` or ``width`` is not a multiple of the spatial factor.
        """
        self.check_size(height, width)
        num_latents = self.num_latent_frames(num_frames)
        channels = 1 if self.discrete else self.latent_channels
        side = self.spatial_factor
        return channels, num_latents, height // side, width // side

    def check_num_frames(self, num_frames: int) -> None:
        """Raise :class:`WrongFrameCountError` unless ``num_frames`` is 1 + f n."""
        factor = self.temporal_factor
        if num_frames >= 1 and (num_frames - 1) % factor == 0:
            return
        below = max(1, 1 + (num_frames - 1) // factor * factor)
        legal = f"{below} or {below + factor}" if num_frames > 1 else f"1 or {1 + factor}"
        raise WrongFrameCountError(
            f"The video has {num_frames} frames, but tokenizer '{self.name}' takes 1 + {factor}n "
            f"frames (the first alone, then {factor} to a latent). The nearest legal lengths are "
            f"{legal}: cut or extend the video to one of them."
        )

    def check_size(self, height: int, width: int) -> None:
        """Raise :class:`WrongSizeError` unless both sides are multiples of the spatial factor."""
        side = self.spatial_factor
        if height >= side and width >= side and height % side == 0 and width % side == 0:
            return
        raise WrongSizeError(
            f"The video is {height}x{width} pixels (height x width), but tokenizer '{self.name}' "
            f"takes multiples of {side}. The nearest legal heights are {_around(height, side)}, "
            f"the nearest legal widths {_around(width, side)}: resize or crop the video."
        )

    def check_video(self, shape: tuple[int, ...], *, later_chunk: bool = False) -> None:
        """Raise the fitting error unless ``shape`` is a legal (B,C,T,H,W).

        Args:
            shape: shape of the video tensor.
            later_chunk: whether the tensor continues a stream, where f n frames are legal.
        """
        if len(shape) != 5 or shape[1] != self.pixel_channels:
            raise InputError(
                f"A tokenizer takes a video tensor (batch, {self.pixel_channels}, frames, height, "
                f"width), not one of shape {tuple(shape)}. Permute or unsqueeze it first."
            )
        self.check_num_frames(shape[2] + later_chunk)
        self.check_size(shape[3], shape[4])

    def to_dict(self) -> dict[str, object]:
        """Plain data for ``config.json``."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, object]) -> TokenizerConfig:
        """Read what :meth:`to_dict` wrote.

        Raises:
            ConfigError: a key is unknown or a required one is missing.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for key in data:
            if key not in known:
                raise ConfigError(
                    f"A tokenizer has no setting '{key}'. The nearest are "
                    f"{nearest_names(key, known)}. Remove or correct it."
                )
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in data.items()
        }
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(
                f"The tokenizer configuration is incomplete: {error}. Expected at least name, "
                "kind, discrete and spatial_factor."
            ) from error


def _around(size: int, step: int) -> str:
    """The legal sizes just below and above ``size``."""
    below = size // step * step
    if below == size and size > 0:
        return str(size)
    return f"{below} and {below + step}" if below else str(step)
