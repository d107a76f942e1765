"""The control that docs/controls.md adds, taken from the page itself."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from nemo_cosmos.errors import NumericsError, SampleError
from nemo_cosmos.models.diffusion.controls import NetworkDims

PAGE = Path(__file__).parents[3] / "docs" / "controls.md"
DIMS = NetworkDims(hidden_size=8, context_size=4, temporal_factor=4, spatial_factor=8)


@pytest.fixture(scope="module")
def speed():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), names)  # our own page
    return names["SPEED"]


def test_its_signal_is_cut_and_checked(speed):
    (signal,) = speed.signals
    values = signal.values(np.arange(9, dtype=np.float32))
    signal.check(values, num_frames=9)
    np.testing.assert_array_equal(signal.batch(values, 4, 5)["speed"], np.arange(4, 9))
    with pytest.raises(NumericsError, match="at most 100 m/s"):
        signal.check(signal.values(np.full(9, 101.0)), num_frames=9)


def test_its_embedder_starts_without_effect_and_learns(speed):
    embedder = speed.embedder("diffusion").build(DIMS)
    batch = {"speed": torch.tensor([[1.0, 3.0, 2.0, 2.0, 2.0]])}
    embedding = embedder(batch, (1, 16, 2, 4, 4))
    assert embedding.timestep_BTD.shape == (1, 1, 8)
    embedding.timestep_BTD.sum().backward()
    torch.testing.assert_close(embedder.project.weight.grad, torch.full((8, 1), 2.0))
    other = embedder({"speed": batch["speed"] * 2}, (1, 16, 2, 4, 4))
    torch.testing.assert_close(other.timestep_BTD, embedding.timestep_BTD)


def test_a_path_or_an_npz_with_the_one_array_will_do(speed, tmp_path):
    (signal,) = speed.signals
    array = np.arange(9, dtype=np.float32)
    np.save(tmp_path / "one.npy", array)
    np.savez(tmp_path / "one.npz", speed=array)
    for given in (tmp_path / "one.npy", str(tmp_path / "one.npz"), {"speed": array}):
        np.testing.assert_array_equal(signal.values(given)["speed"], array)


def test_a_file_that_is_no_array_gets_no_advice_to_load_pickles(speed, tmp_path):
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(SampleError) as raised:
        speed.signals[0].values(tmp_path / "text.npy")
    assert "allow_pickle" not in str(raised.value) and ".." not in str(raised.value)
