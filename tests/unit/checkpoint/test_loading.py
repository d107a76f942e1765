"""Loads of whole models say what they did, and one that does nothing is an error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nemo_cosmos.checkpoint.loading import Loaded, load_weights
from nemo_cosmos.checkpoint.world.folder import load_world, open_weights
from nemo_cosmos.errors import CheckpointError
from nemo_cosmos.models.common.family import get_family
from nemo_cosmos.testing.tiny import write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("proof") / "world")


@pytest.fixture
def copy(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "world"))


def rewrite(folder: Path, prefix: str) -> None:
    state = load_file(folder / "model.safetensors")
    save_file(
        {prefix + name: tensor for name, tensor in state.items()}, folder / "model.safetensors"
    )


def test_a_world_that_is_loaded_says_what_changed(world, capsys):
    num = len(load_file(world / "model.safetensors"))
    load_world(world)
    said = capsys.readouterr().err
    counts = f"{num} tensors matched, 0 missing, 0 unexpected; {num} changed"
    assert f"'{world}/model.safetensors': {counts}" in said


def test_names_that_all_carry_a_prefix_match_nothing(copy):
    rewrite(copy, "model.")
    with pytest.raises(CheckpointError, match=r" 0 matched; .* unexpected \(model\.") as error:
        load_world(copy)
    assert "Every name in the file begins with 'model.', which the model's names do not" in str(
        error.value
    )


def test_memory_that_holds_the_same_weights_already_is_no_error(world, monkeypatch, capsys):
    """A second load is often given the memory of the first network, as it was left."""
    kind, net = type(get_family("diffusion")), load_world(world).net
    monkeypatch.setattr(kind, "build_network", lambda *_, **__: net)
    state = load_file(world / "model.safetensors")
    capsys.readouterr()
    again = dict(load_world(world).net.named_parameters())
    assert f"; {len(state)} changed" in capsys.readouterr().err
    assert all(torch.equal(again[name], value) for name, value in state.items())


def test_a_load_that_does_not_reach_the_network_is_an_error(world, monkeypatch):
    net = load_world(world).net
    monkeypatch.setattr(torch.Tensor, "copy_", lambda self, _: self)
    with pytest.raises(CheckpointError, match=r"changed nothing: \d+ tensors matched"):
        load_weights([net], open_weights(world / "model.safetensors"), "it", is_filled=False)


def test_weights_that_are_the_initial_ones_are_an_error(world):
    """An untrained network's, such as those that a random draw of the same seed makes."""
    net = load_world(world).net
    with pytest.raises(CheckpointError, match=r"changed nothing: \d+ tensors matched, 0 missing"):
        load_weights([net], open_weights(world / "model.safetensors"), "it")


def test_missing_tensors_are_counted_and_named(tmp_path):
    class Steered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 70, bias=False)
            self.controls = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))

    save_file({"inner.weight": torch.ones(70, 2)}, tmp_path / "model.safetensors")
    net, weights = Steered(), open_weights(tmp_path / "model.safetensors")
    loaded = load_weights([net], weights, "it", may_be_new=lambda name: "controls" in name)
    assert (loaded.matched, len(loaded.missing), loaded.changed) == (1, 6, 1)
    assert "6 missing (controls.0.bias, controls.0.weight, controls.1.bias" in loaded.words()
    with pytest.raises(CheckpointError, match=r"6 missing \(controls\.0\.bias"):
        load_weights([net], weights, "it")


def test_the_first_four_names_are_enough():
    loaded = Loaded("x", 1, tuple("abcde"), 1)
    assert "5 missing (a, b, c, d, ...), 0 unexpected" in loaded.words()
