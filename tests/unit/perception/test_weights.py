"""Checkpoints of other projects are read without running anything in them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nemo_cosmos.errors import AssetError, CheckpointError
from nemo_cosmos.perception.weights import load_exactly, read_array_pickle, read_state


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil-ran",)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s}])
def test_wrappers_and_prefixes_are_taken_off(tmp_path, wrap):
    torch.save(wrap({"module.a.weight": torch.ones(2)}), tmp_path / "w.pt")
    assert read_state(tmp_path / "w.pt", "a test")["a.weight"].tolist() == [1, 1]


def test_safetensors(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors")
    assert read_state(tmp_path / "w.safetensors", "a test")["a"].tolist() == [1, 1]


def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"a": torch.ones(1), "b": Evil()}}, tmp_path / "w.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("w.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match="could run code"):
            read_state(tmp_path / name, "a test")
    assert not (tmp_path / "evil-ran").exists()


@pytest.mark.parametrize("content", [b"", b"noise" * 50])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_damaged_file_is_one_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        read_state(tmp_path / name, "a test")


def test_a_missing_file_and_one_without_tensors(tmp_path):
    with pytest.raises(CheckpointError, match="FileNotFoundError"):
        read_state(tmp_path / "w.pt", "a test")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="no dictionary"):
        read_state(tmp_path / "list.pt", "a test")


def test_counters_of_normalisation_may_be_missing_and_nothing_else(tmp_path):
    net = nn.BatchNorm1d(3)
    state = {n: t for n, t in net.state_dict().items() if n != "num_batches_tracked"}
    load_exactly(nn.BatchNorm1d(3), state, tmp_path, "a test")
    del state["weight"]
    with pytest.raises(CheckpointError, match="weight"):
        load_exactly(nn.BatchNorm1d(3), state, tmp_path, "a test")


def test_array_pickles_are_read(tmp_path):
    tree = {"a": {"b": np.arange(3.0)}}
    path = tmp_path / "weights.ckpt"
    path.write_bytes(pickle.dumps(tree))
    np.testing.assert_array_equal(read_array_pickle(path)["a"]["b"], np.arange(3.0))


def test_an_array_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.ckpt"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(AssetError, match="not part of a NumPy"):
        read_array_pickle(path)
    assert not Path("evil-ran").exists()
    path.write_bytes(pickle.dumps({"a": np.zeros(9)})[:-20])
    with pytest.raises(AssetError, match="damaged"):
        read_array_pickle(path)
