"""An adapter on diffusers' network computes what our merged network does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from nemo_cosmos.checkpoint.adapters.folder import AdapterConfig, save_adapter, weights_sha256
from nemo_cosmos.checkpoint.adapters.merged import Weighted
from nemo_cosmos.checkpoint.convert import export_checkpoint
from nemo_cosmos.checkpoint.world.config import read_config
from nemo_cosmos.checkpoint.world.folder import load_world, open_weights
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.testing.tiny import write_world

diffusers = pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("base") / "world")


@pytest.fixture(scope="module")
def adapter(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random factors of every projection and of a modulation, with alpha apart from the rank."""
    source = open_weights(world / "model.safetensors")
    generator, tensors = torch.Generator().manual_seed(3), {}
    for name, spec in source.specs.items():
        if name.startswith("blocks.") and ".linear_" in name:
            stem = name.removesuffix(".weight")
            for factor, shape in (("A", (3, spec.shape[1])), ("B", (spec.shape[0], 3))):
                value = 0.3 * torch.randn(shape, generator=generator)
                tensors[f"{stem}.lora_{factor}.weight"] = value
    config = AdapterConfig(
        rank=3,
        alpha=5.0,
        dropout=0.0,
        target_modules=("linear_*",),
        trained_modules=(),
        base=str(world),
        base_preset="tiny",
        base_sha256=weights_sha256(source),
        world=read_config(world),
    )
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    save_adapter(folder, config, tensors)
    return folder


@pytest.fixture
def theirs(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """The base as diffusers loads it."""
    from diffusers.models.transformers import transformer_cosmos

    def resize(mask: torch.Tensor, size: list[int], interpolation: str) -> torch.Tensor:
        return F.interpolate(mask, size=size, mode=interpolation)

    transforms = SimpleNamespace(  # of torchvision, which has no build beside torch for the CPU
        functional=SimpleNamespace(resize=resize),
        InterpolationMode=SimpleNamespace(NEAREST="nearest"),
    )
    monkeypatch.setattr(transformer_cosmos, "transforms", transforms, raising=False)
    export_checkpoint(world, tmp_path / "base_hf", "diffusers")
    folder = str(tmp_path / "base_hf" / "transformer")
    return diffusers.CosmosTransformer3DModel.from_pretrained(folder).eval()


@torch.no_grad()
def compute(net: torch.nn.Module, *, is_theirs: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x, text = torch.randn(1, 16, 3, 4, 6, generator=generator), torch.randn(1, 8, 12)
    text = torch.randn(text.shape, generator=generator)
    c_noise, padding = torch.tensor([0.2]), torch.zeros(1, 1, 32, 48)
    given = torch.zeros(1, 1, 3, 4, 6)
    given[:, :, :1] = 1
    if not is_theirs:
        return net(NetworkInput(x, c_noise, text, torch.tensor([12.0]), padding, given))
    return net(
        hidden_states=x,
        timestep=c_noise,
        encoder_hidden_states=text,
        fps=12.0,
        condition_mask=given,
        padding_mask=padding,
        return_dict=False,
    )[0]


def check(theirs: torch.nn.Module, world: Path, adapter: Path, tmp_path: Path) -> None:
    export_checkpoint(world, tmp_path / "merged", "world", adapters=[Weighted(adapter)])
    ours = compute(load_world(tmp_path / "merged").net, is_theirs=False)
    start = compute(load_world(world).net, is_theirs=False)
    size = ours.abs().max()
    assert (ours - start).abs().max() > 0.05 * size, "an adapter without effect would hide a fault"
    assert (compute(theirs, is_theirs=True) - ours).abs().max() <= TOLERANCE * size


def test_peft_loads_it(theirs, world, adapter, tmp_path):
    export_checkpoint(adapter, tmp_path / "hf", "diffusers")
    check(peft.PeftModel.from_pretrained(theirs, str(tmp_path / "hf")), world, adapter, tmp_path)


def test_diffusers_loads_it(theirs, world, adapter, tmp_path):
    """By the method that its models have from release 0.36 on; here it is put on the class."""
    from diffusers.loaders import PeftAdapterMixin

    if not isinstance(theirs, PeftAdapterMixin):
        theirs.__class__ = type("Cosmos", (type(theirs), PeftAdapterMixin), {})
    export_checkpoint(adapter, tmp_path / "hf", "diffusers")
    theirs.load_lora_adapter(str(tmp_path / "hf"), weight_name="pytorch_lora_weights.safetensors")
    assert json.loads((tmp_path / "hf" / "adapter_config.json").read_text())["lora_alpha"] == 3
    check(theirs, world, adapter, tmp_path)


def test_a_merged_world_goes_to_diffusers_as_a_whole(theirs, world, adapter, tmp_path):
    export_checkpoint(world, tmp_path / "hf", "diffusers", adapters=[Weighted(adapter)])
    folder = str(tmp_path / "hf" / "transformer")
    whole = diffusers.CosmosTransformer3DModel.from_pretrained(folder).eval()
    check(whole, world, adapter, tmp_path)


def test_weights_in_full_and_controls_have_no_place_there(world, adapter, tmp_path):
    file = adapter / "adapter_config.json"
    config = AdapterConfig.from_dict(json.loads(file.read_text()))
    steered = replace(config.world, controls=(ControlSpec("action"),))
    save_adapter(tmp_path / "steered", replace(config, world=steered), {"a": torch.ones(1)})
    save_adapter(tmp_path / "full", config, {"final_layer.linear.weight": torch.ones(64, 48)})
    for name, words in (("steered", "control 'action'"), ("full", "in full")):
        with pytest.raises(ConfigError, match=words):
            export_checkpoint(tmp_path / name, tmp_path / "out", "diffusers")
        assert not (tmp_path / "out").exists()
