"""Pools of processes that all distributed tests of a session share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nemo_cosmos.testing.processes import ProcessPool

PRELOAD = (
    "nemo_cosmos.models.diffusion.model",
    "nemo_cosmos.training.trainer",
    "recipes.diffusion",
)


@pytest.fixture(scope="session")
def two_processes() -> Iterator[ProcessPool]:
    with ProcessPool(2, preload=PRELOAD) as pool:
        yield pool


@pytest.fixture(scope="session")
def four_processes() -> Iterator[ProcessPool]:
    with ProcessPool(4, preload=PRELOAD) as pool:
        yield pool
