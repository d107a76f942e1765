"""Loads of whole models say what they did, and one that does nothing is an error."""

from __future__ import annotations

import re
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
    assert f"'{world}/model.safetensors': {num} tensors matched, 0 missing, 0 unexpected" in said
    # A few may be as before: memory that nobody has filled can hold what an untrained layer does.
    changed = re.search(r"(\d+) changed", said)
    assert changed is not None and num / 2 < int(changed[1]) <= num


def test_names_that_all_carry_a_prefix_match_nothing(copy):
    rewrite(copy, "model.")
    with pytest.raises(CheckpointError, match=r" 0 matched; .* unexpected \(model\.") as error:
        load_world(copy)
    assert "Every name in the file begins with 'model.', which the model's names do not" in str(
        error.value
    )


def test_weights_that_are_the_initial_ones_are_an_error(copy, monkeypatch):
    """An untrained network's, such as those that a random draw of the same seed makes."""
    kind = type(get_family("diffusion"))
    build, net = kind.build_network, load_world(copy).net

    def built(*args, **kwargs):
        made = build(*args, **kwargs)
        made.load_state_dict(net.state_dict())
        return made

    monkeypatch.setattr(kind, "build_network", built)
    with pytest.raises(CheckpointError, match=r"changed nothing: \d+ tensors matched, 0 missing"):
        load_world(copy)


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
