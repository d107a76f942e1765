"""An export is proved: read back, compared, and made to generate."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nemo_cosmos.checkpoint.adapters.folder import AdapterConfig, save_adapter, weights_sha256
from nemo_cosmos.checkpoint.adapters.merged import Weighted
from nemo_cosmos.checkpoint.convert import export_checkpoint
from nemo_cosmos.checkpoint.formats.tensors import named_tensors
from nemo_cosmos.checkpoint.world.config import read_config
from nemo_cosmos.checkpoint.world.folder import model_record, open_weights
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import CheckpointError, ConfigError
from nemo_cosmos.inference.loading import load_shared_world
from nemo_cosmos.inference.verification import check_verifiable, small_video, verify_export
from nemo_cosmos.testing.tiny import write_ar_world, write_world

NAME = "blocks.layers.0.mlp.linear_fc1"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("base") / "world", controls=["action"])


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(base, tmp_path_factory.mktemp("adapter") / "adapter", 1.0)


def make_adapter(
    base: Path, folder: Path, size: float, *, name: str = NAME, steered: Path | None = None
) -> Path:
    """Write an adapter of one map, and of what a steered world has beyond its base."""
    generator = torch.Generator().manual_seed(1)
    source = open_weights(base / "model.safetensors")
    config = AdapterConfig(
        rank=4,
        alpha=4.0,
        dropout=0.0,
        target_modules=("linear_fc1",),
        trained_modules=(),
        base=str(base),
        base_preset="tiny",
        base_sha256=weights_sha256(source),
        world=read_config(steered or base),
    )
    rows, columns = source.specs[f"{name}.weight"].shape
    tensors = {
        f"{name}.lora_A.weight": torch.randn(4, columns, generator=generator),
        f"{name}.lora_B.weight": torch.randn(rows, 4, generator=generator) * size,
    }
    more = {} if steered is None else load_file(steered / "model.safetensors")
    tensors |= {one: value for one, value in more.items() if one not in source.specs}
    save_adapter(folder, config, tensors)
    return folder


@pytest.mark.parametrize("format", ["world", "nemo"])
def test_an_export_with_an_adapter_is_proved(base, adapter, tmp_path, format):
    wanted = [Weighted(adapter)]
    export_checkpoint(base, tmp_path / "out", format, adapters=wanted)
    found = verify_export(base, tmp_path / "out", format, wanted)
    assert (found.changed, found.new, found.largest) == (1, 0, 0.0)
    assert found.matched == len(load_file(base / "model.safetensors"))
    assert found.video_difference > 1
    assert math.isfinite(found.video_psnr_db)
    assert "differs from the base's by" in found.words()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture(scope="module")
def codes_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ar_world(tmp_path_factory.mktemp("codes_base") / "world")


@pytest.mark.parametrize("format", ["world", "cosmos", "cosmos-tp2", "nemo"])
def test_an_autoregressive_export_is_proved(codes_base, tmp_path, format):
    (tmp_path / "adapters").mkdir()
    wanted = [
        Weighted(make_adapter(codes_base, tmp_path / "adapters" / name, 1.0, name=name), weight)
        for name, weight in ((NAME, 1.0), (NAME.replace("fc1", "fc2"), -0.5))
    ]
    export_checkpoint(codes_base, tmp_path / "out", format, adapters=wanted)
    found = verify_export(codes_base, tmp_path / "out", format, wanted)
    assert (found.changed, found.new) == (2, 0)
    assert found.largest < 1e-6
    assert found.video_difference > 1


@pytest.mark.parametrize("family", ["diffusion", "autoregressive"])
def test_an_adapter_that_brings_a_control_is_proved_without_its_signal(tmp_path, family):
    """The base cannot be told anything, so that both make their video untold."""
    if family == "diffusion":
        base = write_world(tmp_path / "base")
        told = write_world(tmp_path / "told", controls=["action"])
    else:
        base = write_ar_world(tmp_path / "base")
        told = write_ar_world(tmp_path / "told", controls=["action"], control_channels=48)
    wanted = [Weighted(make_adapter(base, tmp_path / "adapter", 1.0, steered=told))]
    export_checkpoint(base, tmp_path / "out", "world", adapters=wanted)
    found = verify_export(base, tmp_path / "out", "world", wanted)
    assert found.changed == 1
    assert found.new > 4
    assert found.video_difference > 0


def test_a_control_in_the_network_s_input_is_silent_in_the_proof(tmp_path):
    world = write_world(
        tmp_path / "world",
        controls=[ControlSpec("discrete", {"num_codes": 75, "width": 6})],
        control_channels=6,
    )
    export_checkpoint(world, tmp_path / "out", "nemo")
    assert verify_export(world, tmp_path / "out", "nemo").video_difference == 0.0


def test_an_export_of_the_base_makes_the_same_video(base, tmp_path):
    export_checkpoint(base, tmp_path / "out", "nemo")
    found = verify_export(base, tmp_path / "out", "nemo")
    assert (found.changed, found.video_difference, found.video_psnr_db) == (0, 0.0, math.inf)


def test_a_damaged_export_is_found(base, adapter, tmp_path):
    wanted, out = [Weighted(adapter)], tmp_path / "out"
    export_checkpoint(base, out, "world", adapters=wanted)
    tensors = load_file(out / "model.safetensors")
    tensors[f"{NAME}.weight"] = load_file(base / "model.safetensors")[f"{NAME}.weight"]
    save_file(tensors, out / "model.safetensors")  # an adapter that never arrived
    with pytest.raises(CheckpointError, match=f"'{NAME}.weight' of .* differs by"):
        verify_export(base, out, "world", wanted)


def test_an_adapter_too_small_to_see_is_an_error(base, tmp_path):
    wanted = [Weighted(make_adapter(base, tmp_path / "adapter", 1e-9))]
    export_checkpoint(base, tmp_path / "out", "world", adapters=wanted)
    with pytest.raises(CheckpointError, match="the very same video"):
        verify_export(base, tmp_path / "out", "world", wanted)


def test_what_cannot_be_read_back_is_refused_before_the_export(base, adapter):
    for source, format, words in (
        (base, "transformers", "nothing here reads 'transformers'"),
        (adapter, "diffusers", "an adapter alone"),
        (base / "tokenizer", "diffusers", "a tokenizer"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_verifiable(source, format)


def test_a_world_is_loaded_with_adapters_as_exported(base, adapter, tmp_path, capsys):
    wanted = [Weighted(adapter, 0.5)]
    export_checkpoint(base, tmp_path / "out", "world", adapters=wanted)
    loaded, exported = load_shared_world(base, adapters=wanted), load_shared_world(tmp_path / "out")
    here, there = (named_tensors(one.net) for one in (loaded, exported))
    assert all(torch.equal(value, here[name]) for name, value in there.items())
    assert "2 tensors matched" in capsys.readouterr().err
    (record,) = model_record(loaded)["adapters"]
    assert (record["name"], record["weight"], len(record["sha256"])) == (str(adapter), 0.5, 64)
    assert (small_video(loaded) == small_video(exported)).all()
