"""Random words by a counter: the number at a place is a function of a seed and of that place.

A generator with a state draws one number after the other on one device. Here every number is
computed alone, by Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011), from a 64-bit seed and a counter. So a rank that holds a part computes that part and
nothing else, ranks that hold the same part agree, and a GPU draws its noise itself.

Written in torch's integer operations, which are exact: the bits are the same on every device.
"""

from __future__ import annotations

from torch import Tensor

NUM_ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF
NUM_WORDS = 4
"""Words of 32 bits that one counter gives."""

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Words, seed: int | Tensor) -> Words:
    """Return four random words of 32 bits for each counter.

    Args:
        counter: four int64 tensors of words from 0 to 2^32 - 1, the lowest word first; they may
            have different shapes that broadcast.
        seed: the key, a number of 64 bits; or int64 keys that broadcast with the counters.
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
