"""Runs that train adapters: what changes, what is left, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from nemo_cosmos.checkpoint.adapters.folder import open_adapter
from nemo_cosmos.checkpoint.adapters.merged import Weighted, merge_adapters
from nemo_cosmos.checkpoint.convert import import_checkpoint
from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.errors import CheckpointError, ConfigError
from nemo_cosmos.models.common.megatron.module import bare_networks
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.training.adapters.lora import LoRA
from nemo_cosmos.training.checkpointing.sharded_state import saved_keys


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / "adapter_model.safetensors")


def exported(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "export" / "model.safetensors")


def test_only_adapters_and_controls_change(tuned, base):
    before, after, small = load_file(base / "model.safetensors"), exported(tuned), adapter(tuned)
    adapted = {
        name.removesuffix(".lora_A.weight") + ".weight" for name in small if "lora_A" in name
    }
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in adapted} == {
        *("linear_qkv", "linear_proj", "linear_q", "linear_kv", "linear_fc1", "linear_fc2")
    }
    for name, value in before.items():
        assert torch.equal(value, after[name]) == (name not in adapted), name
    new = after.keys() - before.keys()
    assert new
    assert all(name.startswith("controls.") for name in new)
    assert any(after[name].any() for name in new if "weight" in name)
    assert small.keys() - new == {
        name.removesuffix(".weight") + factor
        for name in adapted
        for factor in (".lora_A.weight", ".lora_B.weight")
    }


def test_the_adapter_is_small_and_says_what_it_is_of(tuned, base):
    config = json.loads((tuned / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 4.0)
    assert config["base_model_name_or_path"] == str(base.resolve())
    assert [one["name"] for one in config["world"]["controls"]] == ["action"]
    factors = sum(value.numel() for name, value in adapter(tuned).items() if "lora_" in name)
    # Inputs and outputs of the seven maps of a layer, times rank and layers.
    ends = (48 + 144, 48 + 48, 48 + 48, 12 + 96, 48 + 48, 48 + 192, 192 + 48)
    assert factors == 2 * 2 * sum(ends)


def test_a_run_prints_what_was_applied(train, tmp_path, capfd):
    train(tmp_path, 1)
    printed = capfd.readouterr().err
    assert "28 tensors matched, 0 missing, 0 unexpected; 14 of" in printed
    assert "0 new" in printed


def test_resume_is_bit_identical_with_the_average(train, tmp_path):
    peft = LoRA(dim=2, alpha=4, dropout=0.1)
    whole = train(tmp_path / "whole", 4, peft, controls=("action",), ema=True)
    train(tmp_path / "parts", 2, peft, controls=("action",), ema=True)
    parts = train(tmp_path / "parts", 4, peft, controls=("action",), ema=True)
    for read in (adapter, exported):
        one, other = read(whole), read(parts)
        assert one.keys() == other.keys()
        assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


def test_step_checkpoints_hold_what_is_trained_alone(tuned, base):
    checkpoint = tuned / "checkpoints" / "step=000002"
    saved = saved_keys(checkpoint)
    weights = {name for name in saved if name.startswith("module.")}
    assert weights
    assert all(".adapter." in name or ".controls." in name for name in weights)
    states = {name for name in saved if name.startswith("optimizer.")}
    stepped = {name[name.index("module.") :] for name in states}
    assert stepped <= weights  # all but the buffers of the control
    assert {name for name in weights if ".adapter." in name} <= stepped
    described = json.loads((checkpoint / "nemo_cosmos.json").read_text())
    assert described["base"]["folder"] == str(base.resolve())
    with pytest.raises(CheckpointError, match=r"holds the adapters of a run alone.*<run>/export"):
        import_checkpoint(checkpoint, tuned / "world")


def test_a_resume_loads_the_base_and_then_the_adapters(train, base, tmp_path, capfd):
    train(tmp_path, 2)
    capfd.readouterr()
    train(tmp_path, 3)
    first, second = (line for line in capfd.readouterr().err.splitlines() if "Weights '" in line)
    assert str(base) in first and "28 missing" in first
    assert "step=000002" in second
    assert "28 tensors matched, 0 missing, 0 unexpected; 28 changed" in second


def test_adapters_do_not_go_on_from_another_base(train, base, tmp_path):
    copy = Path(shutil.copytree(base, tmp_path / "base"))
    train(tmp_path, 2, start=copy)
    state = load_file(copy / "model.safetensors")
    name = next(name for name in state if name.endswith("linear_proj.weight"))
    save_file({**state, name: state[name] + 1}, copy / "model.safetensors")
    with pytest.raises(ConfigError, match=r"has other weights now.*Put the former base back"):
        train(tmp_path, 4, start=copy)


def test_a_run_without_adapters_does_not_go_on_from_theirs(train, tuned, tmp_path):
    shutil.copytree(tuned / "checkpoints", tmp_path / "run" / "checkpoints")
    with pytest.raises(CheckpointError, match=r"holds the adapters of a run alone.*peft_scheme"):
        train(tmp_path, 5, controls=("action",), all_weights=True)


class Watch(pl.Callback):
    """What the network with its adapters beside the weights computes at the end of training."""

    def on_train_end(self, trainer, *_):
        self.out = run_network(bare_networks(trainer)[0])


def run_network(net) -> torch.Tensor:
    """What a network makes of a fixed input."""
    generator = torch.Generator().manual_seed(0)
    inputs = NetworkInput(
        x_BCTHW=torch.randn(1, 16, 3, 4, 4, generator=generator),
        c_noise=torch.full((1,), 0.3),
        text=torch.randn(1, 8, 12, generator=generator),
        fps_B=torch.tensor([10.0]),
    )
    with torch.no_grad():
        return net.eval()(inputs)


def test_the_merged_export_computes_what_was_trained(train, base, tmp_path):
    watch = Watch()
    run = train(tmp_path, 3, callbacks=[watch])
    merged = run_network(load_world(run / "export").net)
    assert (merged - watch.out).abs().max() < 1e-5 * merged.abs().max()
    start = run_network(load_world(base).net)
    assert (merged - start).abs().max() > 1e-3 * start.abs().max()


def test_recomputed_layers_train_their_adapters(train, tmp_path):
    """All before the layers is frozen, so that nothing that enters them asks for gradients."""
    recompute = {
        "recompute_granularity": "full",
        "recompute_method": "uniform",
        "recompute_num_layers": 1,
    }
    plain, again = (
        adapter(train(tmp_path / name, 1, network=network))
        for name, network in (("plain", {}), ("again", recompute))
    )
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-6)
        assert value.any()


def test_mixed_precision_keeps_the_base(train, base, tmp_path):
    run = train(tmp_path, 2, precision="bf16-mixed")
    merged = merge_adapters(base, [Weighted(run)])
    assert merged.applied[0].changed == 14
    before, after = load_file(base / "model.safetensors"), exported(run)
    unadapted = before.keys() - open_adapter(run).pairs.keys()
    assert all(torch.equal(before[name], after[name]) for name in unadapted)


def test_an_adapter_that_learnt_nothing_is_an_error(train, tmp_path):
    with pytest.raises(CheckpointError, match="changes none of 14 weights"):
        train(tmp_path, 1, lr=0.0)
    assert not (tmp_path / "run" / "export").exists()


def test_a_pattern_of_some_layers_saves_and_resumes(train, tmp_path, capfd):
    """Megatron-Core stacks equal weights of all layers, and here one of two has adapters."""
    peft = LoRA(dim=2, alpha=4, target_modules=("*.layers.1.*.linear_qkv",))
    train(tmp_path, 2, peft)
    saved = adapter(tmp_path / "run")
    run = train(tmp_path, 3, peft)
    assert "2 tensors matched, 0 missing, 0 unexpected; 2 changed" in capfd.readouterr().err
    assert {name.partition(".self")[0] for name in adapter(run)} == {"blocks.layers.1"}
    assert any(not torch.equal(value, saved[name]) for name, value in adapter(run).items())


def test_unknown_targets_and_weights_that_are_no_world_are_refused(train, tmp_path):
    with pytest.raises(ConfigError, match=r"no linear map of this network.*'linear_qkv'"):
        train(tmp_path, 1, LoRA(target_modules=("linear_qvk",)))
    with pytest.raises(ConfigError, match=r"peft\.dim"):
        LoRA(dim=0)


def test_an_adapter_starts_from_a_world_folder(train, tuned, tmp_path):
    (checkpoint,) = (tuned / "checkpoints").glob("step=000002")
    with pytest.raises(ConfigError, match=r"is a checkpoint.*nemo-cosmos import"):
        train(tmp_path, 1, controls=("action",), start=checkpoint)
