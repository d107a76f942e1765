"""NeMo's own way in and out: connectors on the model class."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("nemo.lightning")

from nemo_cosmos.checkpoint.convert import export_checkpoint
from nemo_cosmos.checkpoint.diffusion import connectors  # noqa: F401 - registers them
from nemo_cosmos.checkpoint.formats.safetensors import SafetensorsSource
from nemo_cosmos.models.diffusion.model import DiffusionModel


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    source = SafetensorsSource(folder / "model.safetensors")
    return {name: source.read(name) for name in source.specs}


@pytest.mark.parametrize("format", ["cosmos", "world"])
def test_in_through_nemo_and_out_again(make_world, tmp_path, format):
    world = make_world()
    source = world if format == "world" else export_checkpoint(world, tmp_path / "in", format)
    importer = DiffusionModel.importer(f"{format}://{source}")
    model = importer.init()
    assert model.config.num_layers == 2 and model.process.edm.learned_variance
    assert model.world.video["num_frames"] == 9
    checkpoint = importer(tmp_path / "nemo")
    assert (checkpoint / "weights" / "metadata.json").is_file()
    again = DiffusionModel.exporter("world", checkpoint)(tmp_path / "again")
    left, right = tensors(world), tensors(again)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_exporter_to_diffusers(make_world, tmp_path):
    checkpoint = export_checkpoint(make_world(), tmp_path / "nemo", "nemo")
    out = DiffusionModel.exporter("diffusers", checkpoint)(tmp_path / "hf")
    assert (out / "transformer" / "diffusion_pytorch_model.safetensors").is_file()
    assert not list(tmp_path.glob(".tmp-*"))
