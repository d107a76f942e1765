"""An elastic run is as large as what the launcher started."""

from __future__ import annotations

import pytest

from nemo_cosmos.platform.ranks import TORCHRUN_VARIABLES, launched_layout


@pytest.mark.parametrize(
    ("world", "local", "layout"), [(8, 8, (8, 1)), (24, 8, (8, 3)), (1, 1, (1, 1)), (3, 1, (1, 3))]
)
def test_the_launchers_processes_count(monkeypatch, world, local, layout):
    for name in TORCHRUN_VARIABLES:
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", str(world))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    assert launched_layout(8, 4) == layout


def test_without_a_launcher_the_recipe_counts(monkeypatch):
    for name in TORCHRUN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert launched_layout(8, 4) == (8, 4)
