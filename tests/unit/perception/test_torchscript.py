"""TorchScript files are read as tensors; whatever else is in them is refused and never run."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from nemo_cosmos.errors import AssetError
from nemo_cosmos.perception.torchscript import read_torchscript_tensors

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2).eval())
        self.register_buffer("scale", torch.tensor([2.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * self.scale


def scripted(folder: Path, module: nn.Module) -> Path:
    path = folder / "network.pt"
    torch.jit.save(torch.jit.script(module.eval()), path)
    return path


def with_pickle(source: Path, content: bytes) -> Path:
    """The same archive with another module tree."""
    target = source.with_name("other.pt")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith("data.pkl") else old.read(name))
    return target


def test_names_and_numbers_are_the_module_s(tmp_path):
    network = Nested()
    network.inner[1].num_batches_tracked = None  # a whole number, which is no weight
    found = read_torchscript_tensors(scripted(tmp_path, network))
    expected = network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_name_that_could_run_code_is_refused(tmp_path):
    class Runs:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    file = with_pickle(scripted(tmp_path, Nested()), pickle.dumps(Runs()))
    with pytest.raises(AssetError, match=r"builtins\.exec"):
        read_torchscript_tensors(file)
    assert not (tmp_path / "ran").exists()


def test_a_transposed_tensor_is_refused(tmp_path):
    network = Nested()
    network.inner[0].weight = nn.Parameter(torch.rand(3, 2).t())
    with pytest.raises(AssetError, match="strides"):
        read_torchscript_tensors(scripted(tmp_path, network))


def test_a_file_that_was_cut_short_is_an_error(tmp_path):
    file = scripted(tmp_path, Nested())
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(AssetError, match="damaged"):
        read_torchscript_tensors(file)
