"""Files that are no ONNX network are one error; networks run by name."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError, CheckpointError
from nemo_cosmos.perception.onnx import load_onnx


@pytest.mark.parametrize("content", [b"", b"noise" * 99])
def test_what_is_no_network_is_an_error(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.onnx' is not a network that ONNX Runtime"):
        load_onnx(tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match="The embedded network is not"):
        load_onnx(content)


def test_outputs_are_the_same_by_name_and_on_more_threads():
    try:
        path = asset_path("open_nsfw")
    except AssetError as error:
        pytest.skip(f"the network is unavailable: {error}")
    picture = np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype(np.float32)
    network = load_onnx(path)
    (output,) = network.run({network.input_names[0]: picture})
    assert np.array_equal(network.run_one(picture), output)
    assert np.abs(load_onnx(path, num_threads=2).run_one(picture) - output).max() < 1e-5
