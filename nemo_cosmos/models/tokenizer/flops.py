"""How many floating-point operations a tokenizer takes, level by level.

A multiplication and an addition count as two. Only convolutions and matrix products are counted, as
is the custom. Training takes three times the forward pass: the gradients of inputs and of weights
each cost one more.

Shape suffixes: thw frames, rows and columns of a level's grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from nemo_cosmos.models.tokenizer.config import TokenizerConfig

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class TokenizerFlops:
    """Operations of one forward pass of a batch.

    Attributes:
        encoder: operations from pixels to latents.
        decoder: operations from latents to pixels.
    """

    encoder: int
    decoder: int

    @property
    def forward(self) -> int:
        """A reconstruction: encoder and decoder."""
        return self.encoder + self.decoder

    @property
    def training(self) -> int:
        """Forward and backward pass of a reconstruction; losses are not counted."""
        return 3 * self.forward


def tokenizer_flops(
    config: TokenizerConfig, num_frames: int, height: int, width: int, batch_size: int = 1
) -> TokenizerFlops:
    """Count a forward pass.

    At a level of width C with P positions (frames x rows x columns), each of them costs
    multiply-adds:

    - a convolution over space, 3x3: ``9 C_in C_out``; over time, 3 frames, which video tokenizers
      do after each one over space: ``3 C_out^2``; a 1x1 map: ``C_in C_out``;
    - a residual block: two convolutions, and a 1x1 map where the width changes;
    - attention in the middle: four 1x1 maps and, for scores and sums, ``2 C`` times the positions
      of the frame, and in video tokenizers again, with ``2 C`` times the number of frames;
    - the wavelet: one square map of a patch's values for each colour.

    A level that halves or doubles an axis counts its convolutions where their results are. The
    decoder's convolution of doubled pixels counts as the plain one, although kernels do less.

    Args:
        config: the tokenizer.
        num_frames: number of frames, 1 + f n.
        height: height in pixels.
        width: width in pixels.
        batch_size: number of videos.

    Raises:
        WrongFrameCountError: the tokenizer does not take this number of frames.
        WrongSizeError: the tokenizer does not take this size.
    """
    config.check_num_frames(num_frames)
    config.check_size(height, width)
    patch_frames = 1 if config.kind == "image" else config.patch_size
    thw = (
        1 + (num_frames - 1) // patch_frames,
        height // config.patch_size,
        width // config.patch_size,
    )
    count = _ImageCount(config) if config.kind == "image" else _VideoCount(config)
    return TokenizerFlops(
        encoder=2 * batch_size * count.encoder(thw),
        decoder=2 * batch_size * count.decoder(count.latent_grid(thw)),
    )


class _ImageCount:
    """Multiply-adds of an image tokenizer; the walk is the same for videos.

    Args:
        config: the tokenizer.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        self.config = config
        self.widths = [config.channels * mult for mult in config.channels_mult]

    def encoder(self, thw: Grid) -> int:
        """From a grid of wavelet patches to latents."""
        config, widths = self.config, [self.config.channels, *self.widths]
        total = self.wavelet(thw) + math.prod(thw) * self.conv(config.patch_channels, widths[0])
        for level, (before, width) in enumerate(pairwise(widths)):
            blocks = [before] + [width] * config.num_res_blocks
            total += math.prod(thw) * sum(self.res_block(*pair) for pair in pairwise(blocks))
            cost, thw = self.down(level, width, thw)
            total += cost
        last = self.conv(widths[-1], config.z_channels) + config.z_channels * config.code_channels
        return total + self.middle(widths[-1], thw) + math.prod(thw) * last

    def decoder(self, thw: Grid) -> int:
        """From a grid of latents to wavelet patches and pixels."""
        config, widths = self.config, self.widths
        first = config.code_channels * config.z_channels + self.conv(config.z_channels, widths[-1])
        total = math.prod(thw) * first + self.middle(widths[-1], thw)
        before = widths[-1]
        for level in reversed(range(len(widths))):
            blocks = [before] + [widths[level]] * (config.num_res_blocks + 1)
            total += math.prod(thw) * sum(self.res_block(*pair) for pair in pairwise(blocks))
            cost, thw = self.up(level, widths[level], thw)
            total += cost
            before = widths[level]
        last = self.conv(widths[0], config.patch_channels)
        return total + math.prod(thw) * last + self.wavelet(thw)

    def latent_grid(self, thw: Grid) -> Grid:
        """The grid that the encoder leaves of one of wavelet patches."""
        for level, width in enumerate(self.widths):
            _, thw = self.down(level, width, thw)
        return thw

    def wavelet(self, thw: Grid) -> int:
        """The Haar transform, one map a colour and patch."""
        config = self.config
        values = config.patch_channels // config.pixel_channels
        return math.prod(thw) * config.pixel_channels * values**2

    def conv(self, inside: int, outside: int) -> int:
        """A convolution, for each position of its result."""
        return 9 * inside * outside

    def res_block(self, inside: int, outside: int) -> int:
        """A residual block, for each position."""
        shortcut = inside * outside if inside != outside else 0
        return self.conv(inside, outside) + self.conv(outside, outside) + shortcut

    def middle(self, width: int, thw: Grid) -> int:
        """Two residual blocks around attention within each frame."""
        in_frame = math.prod(thw[1:])
        each = 2 * self.res_block(width, width) + 4 * width**2 + 2 * width * in_frame
        return math.prod(thw) * each

    def down(self, level: int, width: int, thw: Grid) -> tuple[int, Grid]:
        """The step from an encoder's level to the next, and the grid that it leaves."""
        if level >= self.config.num_spatial_steps:
            return 0, thw
        thw = (thw[0], thw[1] // 2, thw[2] // 2)
        return math.prod(thw) * 9 * width**2, thw

    def up(self, level: int, width: int, thw: Grid) -> tuple[int, Grid]:
        """The step from a decoder's level to the one above, and the grid that it leaves."""
        if level < len(self.widths) - self.config.num_spatial_steps:
            return 0, thw
        thw = (thw[0], thw[1] * 2, thw[2] * 2)
        return math.prod(thw) * 9 * width**2, thw


class _VideoCount(_ImageCount):
    """Multiply-adds of a causal video tokenizer."""

    def conv(self, inside: int, outside: int) -> int:
        """A convolution over space, then one over time."""
        return 9 * inside * outside + 3 * outside**2

    def middle(self, width: int, thw: Grid) -> int:
        """Attention within each frame, then of each pixel over time."""
        over_time = 4 * width**2 + 2 * width * thw[0]
        return super().middle(width, thw) + math.prod(thw) * over_time

    def down(self, level: int, width: int, thw: Grid) -> tuple[int, Grid]:
        """Halve space, then time, each by a convolution; a 1x1 map at the end."""
        config, total = self.config, 0
        if level == len(self.widths) - 1:
            return 0, thw
        spatial, temporal = level < config.num_spatial_steps, level < config.num_temporal_steps
        if spatial:
            thw = (thw[0], thw[1] // 2, thw[2] // 2)
            total += math.prod(thw) * 9 * width**2
        if temporal:
            thw = ((thw[0] + 1) // 2, *thw[1:])
            total += math.prod(thw) * 3 * width**2
        return total + math.prod(thw) * (spatial or temporal) * width**2, thw

    def up(self, level: int, width: int, thw: Grid) -> tuple[int, Grid]:
        """Double time, then space, each by a convolution; a 1x1 map at the end."""
        total = 0
        if level == 0:
            return 0, thw
        spatial, temporal = self.config.decoder_doubles(depth=len(self.widths) - 1 - level)
        if temporal:
            thw = (2 * thw[0] - 1, *thw[1:])
            total += math.prod(thw) * 3 * width**2
        if spatial:
            thw = (thw[0], thw[1] * 2, thw[2] * 2)
            total += math.prod(thw) * 9 * width**2
        return total + math.prod(thw) * (spatial or temporal) * width**2, thw
