"""Noise by a counter: the published bits, a normal distribution, and any box of a video alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from nemo_cosmos.models.common.philox import WORD, philox
from nemo_cosmos.models.diffusion.process.counter_noise import normal_noise, normal_pair

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((WORD,) * 4, (WORD,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_bits_are_those_that_the_authors_publish(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    a, b, c, d = (torch.tensor([word]) for word in counter)
    words = philox((a, b, c, d), key[0] | key[1] << 32)
    assert tuple(int(word) for word in words) == expected


def test_numbers_follow_from_the_bits() -> None:
    """By NumPy, whose logarithms and cosines are others."""
    noise = normal_noise((4, 2, 3, 5), 2**63 + 12345, CPU, stream=1).numpy()
    place = torch.arange(30)
    zero = torch.zeros(30, dtype=torch.int64)
    words = [word.numpy() for word in philox((place, zero, zero + 1, zero), 2**63 + 12345)]
    for pair in (0, 1):
        radius = np.sqrt(-2 * np.log((words[2 * pair] + 1) / 2**32))
        angle = 2 * np.pi * words[2 * pair + 1] / 2**32
        expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)])
        here = noise[2 * pair : 2 * pair + 2].reshape(2, 30)
        np.testing.assert_array_equal(here, expected.astype(np.float32))


def test_numbers_are_normal() -> None:
    noise = normal_noise((16, 4, 40, 40), 3, CPU).flatten()
    assert stats.kstest(noise.numpy(), "norm").pvalue > 0.01
    assert noise.unique().numel() > 0.99 * noise.numel()
    neighbours = torch.stack([noise[:-1], noise[1:]])
    assert abs(torch.corrcoef(neighbours)[0, 1]) < 0.01


def test_the_extreme_bits_give_finite_numbers() -> None:
    extremes = torch.tensor([0, 1, WORD - 1, WORD])
    pairs = normal_pair(extremes[:, None], extremes[None])
    assert all(numbers.isfinite().all() for numbers in pairs)
    assert max(numbers.abs().max() for numbers in pairs) < 6.7  # sqrt(-2 ln 2^-32)


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_a_box_is_computed_alone(channels: int) -> None:
    whole = normal_noise((channels, 5, 6, 7), 9, CPU)
    box = normal_noise((channels, 2, 3, 4), 9, CPU, whole_thw=(5, 6, 7), start_thw=(1, 2, 3))
    assert torch.equal(box, whole[:, 1:3, 2:5, 3:7])
    assert not torch.equal(whole, normal_noise((channels, 5, 6, 7), 9, CPU, stream=1))
