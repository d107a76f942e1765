"""The peak of a block is that of the block, and not of what came before."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from nemo_cosmos.platform.peak_memory import peak_memory

MB = 1_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux measures a part of a process")
def test_a_peak_is_seen_and_forgotten():
    with peak_memory() as before:
        pass
    with peak_memory() as large:
        np.ones(200 * MB, np.uint8)
    with peak_memory() as after:
        pass
    assert large.host_bytes - before.host_bytes > 150 * MB
    assert large.host_bytes - after.host_bytes > 150 * MB
