"""The simulated table and an eye for its pictures, small, for the tests of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nemo_cosmos.errors import AssetError
from nemo_cosmos.platform import has
from post_training.rendering import prepare_environment
from post_training.robotics.simulation.robot import prepare_robot
from post_training.robotics.usefulness.environment import Form
from post_training.robotics.usefulness.seeing import Eye
from post_training.robotics.usefulness.simulated import SimulatedTable

NUM_KNOWN = 300


@pytest.fixture(scope="session")
def table() -> Iterator[SimulatedTable]:
    """Chunks of four slow actions, which lead a quarter of a metre, at the usual size."""
    if not has("mujoco"):
        pytest.skip("MuJoCo is not installed (extra 'sim')")
    prepare_environment("software")
    try:
        prepare_robot()
    except AssetError as error:
        pytest.skip(f"the robot's files cannot be fetched: {error}")
    table = SimulatedTable(Form(num_actions=4, fps=4.0), seed=5)
    yield table
    table.close()


@pytest.fixture(scope="session")
def eye(table: SimulatedTable, tmp_path_factory: pytest.TempPathFactory) -> Eye:
    """An eye that looked at fewer pictures than usual."""
    with pytest.MonkeyPatch.context() as patch:
        from post_training.robotics.usefulness import seeing

        patch.setattr(seeing, "cache_dir", lambda: tmp_path_factory.mktemp("cache"))
        return Eye.learn(table, NUM_KNOWN)
