"""Normal noise by a counter: the number at a place is a function of a seed and of that place.

The counter (:mod:`~nemo_cosmos.models.common.philox`) is the number's place in the whole video. So
a rank that holds a part of the video computes that part and nothing else, ranks that hold the same
part agree, and a GPU draws its noise itself: nothing is copied to it, and the host waits for
nothing.

The random bits are the same on every device. The normal numbers are computed from them in float64
and rounded to float32, so that devices whose logarithms and cosines differ in the last bit round to
the same number, but for about one in a hundred million.

Shape suffixes: C channels, T latent frames, H W latent rows and columns; G groups of four channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nemo_cosmos.models.common.philox import NUM_WORDS, WORD, philox


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
