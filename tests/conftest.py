"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

SAMPLES_VARIABLE = "NEMO_COSMOS_SAMPLES"


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """The folder of real sample clips; the test is skipped where there is none."""
    folder = os.environ.get(SAMPLES_VARIABLE)
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"{SAMPLES_VARIABLE} does not name a folder of sample clips")
    return Path(folder)


@pytest.fixture
def moving_square_THWC() -> np.ndarray:
    """25 frames, 64x96, of a bright square that moves right by two pixels a frame, uint8 RGB."""
    frames = np.full((25, 64, 96, 3), 40, dtype=np.uint8)
    frames[..., 1] += np.arange(96, dtype=np.uint8)
    for index, frame in enumerate(frames):
        frame[20:36, 4 + 2 * index : 20 + 2 * index] = (230, 60, 30)
    return frames
