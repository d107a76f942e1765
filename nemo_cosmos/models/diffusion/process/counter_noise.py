"""Normal noise by a counter: the number at a place is a function of a seed and of that place.

A generator with a state draws one number after the other on one device. Here every number is
computed alone, by Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011), from a 64-bit seed and the number's place in the whole video. So a rank that holds a part
of the video computes that part and nothing else, ranks that hold the same part agree, and a GPU
draws its noise itself: nothing is copied to it, and the host waits for nothing.

Written in torch's integer operations, which are exact: the random bits are the same on every
device. The normal numbers are computed from them in float64 and rounded to float32, so that devices
whose logarithms and cosines differ in the last bit round to the same number, but for about one in
a hundred million.

Shape suffixes: C channels, T latent frames, H W latent rows and columns; G groups of four channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

NUM_ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF
NUM_WORDS = 4
"""Words of 32 bits that one counter gives."""

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Words, seed: int) -> Words:
    """Return four random words of 32 bits for each counter.

    Args:
        counter: four int64 tensors of words from 0 to 2^32 - 1, the lowest word first; they may
            have different shapes that broadcast.
        seed: the key, a number of 64 bits.
    """
    a, b, c, d = counter
    keys = [seed & WORD, seed >> 32 & WORD]
    for _ in range(NUM_ROUNDS):
        # A product of two words fills the 64 bits of an integer, sign included; the mask after the
        # shift removes the copies of the sign.
        low, high = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (
            (high >> 32 & WORD) ^ b ^ keys[0],
            high & WORD,
            (low >> 32 & WORD) ^ d ^ keys[1],
            low & WORD,
        )
        keys = [key + step & WORD for key, step in zip(keys, KEY_STEPS, strict=True)]
    return a, b, c, d


def normal_noise(
    shape_CTHW: Sequence[int],
    seed: int,
    device: torch.device,
    *,
    stream: int = 0,
    whole_thw: Sequence[int] | None = None,
    start_thw: Sequence[int] = (0, 0, 0),
) -> Tensor:
    """Return standard normal float32 noise for a box of a latent video.

    Args:
        shape_CTHW: shape of the box, which holds all channels.
        seed: seed of the video's noise, from 0 to 2^64 - 1.
        device: where the noise is computed.
        stream: number of the noise, where a video needs several.
        whole_thw: frames, rows and columns of the whole video; the box is the whole by default.
        start_thw: the box's first frame, row and column.
    """
    channels, *size_thw = shape_CTHW
    # Four neighbouring channels share a counter: ranks never divide the channels.
    groups = math.ceil(channels / NUM_WORDS)
    place_GTHW = _places((groups, *size_thw), whole_thw or size_thw, start_thw, device)
    zero = place_GTHW.new_zeros(())
    counter = (place_GTHW & WORD, place_GTHW >> 32, torch.full_like(zero, stream), zero)
    words = philox(counter, seed)
    pairs = [normal_pair(*words[:2]), normal_pair(*words[2:])]
    noise = torch.stack([number for pair in pairs for number in pair], dim=1)
    return noise.flatten(0, 1)[:channels]


def _places(
    size_GTHW: Sequence[int],
    whole_thw: Sequence[int],
    start_thw: Sequence[int],
    device: torch.device,
) -> Tensor:
    """The number of each place of a box in the whole video, int64."""
    place = torch.zeros((), dtype=torch.int64, device=device)
    for axis, (size, whole, start) in enumerate(
        zip(size_GTHW, (size_GTHW[0], *whole_thw), (0, *start_thw), strict=True)
    ):
        along = torch.arange(start, start + size, device=device)
        place = place * whole + along.view(-1, *(1,) * (len(size_GTHW) - 1 - axis))
    return place


def normal_pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return two independent standard normal float32 numbers for two random words (Box-Muller)."""
    # From (0, 1], since zero has no logarithm.
    radius = ((first + 1).double() * 2.0**-32).log().mul(-2).sqrt()
    angle = second.double() * (2 * math.pi * 2.0**-32)
    return (radius * angle.cos()).float(), (radius * angle.sin()).float()
