"""The noise that a GPU computes is what the CPU computes by the same counter."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.models.common.philox import philox
from nemo_cosmos.models.diffusion.process.counter_noise import normal_noise

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
CUDA = torch.device("cuda")


def test_the_bits_are_equal() -> None:
    words = torch.arange(1 << 16)
    zero = torch.zeros_like(words)
    here = philox((words, zero, zero, zero), 2**63 + 1)
    there = philox((words.to(CUDA), *[zero.to(CUDA)] * 3), 2**63 + 1)
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))


def test_the_numbers_are_equal_but_for_a_rounding() -> None:
    shape = (16, 4, 88, 160)
    here = normal_noise(shape, 7, torch.device("cpu"))
    there = normal_noise(shape, 7, CUDA).cpu()
    torch.testing.assert_close(there, here, rtol=2e-7, atol=1e-9)
    assert (there != here).sum() <= 3, "float64 rounded to float32 differs once in 10^8"


def test_drawing_does_not_wait_for_the_gpu() -> None:
    torch.cuda.set_sync_debug_mode("error")
    try:
        normal_noise((16, 2, 8, 8), 7, CUDA)
    finally:
        torch.cuda.set_sync_debug_mode("default")
