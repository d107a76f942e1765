"""Whole training runs of a toy model through NeMo: finish, stop, resume, repeat."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from nemo import lightning as nl
from safetensors.torch import load_file

from nemo_cosmos import api
from nemo_cosmos.errors import CheckpointError, ConfigError, MissingFileError
from nemo_cosmos.storage.run_curves import read_curves
from nemo_cosmos.training.callbacks.signals import StoppedError
from nemo_cosmos.training.checkpointing.resume import RunResume
from nemo_cosmos.training.run_folder import list_checkpoints

TOY = Path(__file__).with_name("toy.py")


class StopAfter(pl.Callback):
    """Send this process a signal at the end of a step."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step - 1:
            os.kill(os.getpid(), self.number)


def exported(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "export" / "model.safetensors")


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


@pytest.fixture(scope="module")
def uninterrupted(toy, tmp_path_factory) -> Path:
    return api.pretrain(**toy.arguments(tmp_path_factory.mktemp("two_step=s"), max_steps=9))


def test_a_run_leaves_export_curves_checkpoints_and_marker(uninterrupted):
    lines = read_curves(uninterrupted)
    assert [line["step"] for line in lines] == list(range(1, 10))
    assert {"loss", "grad_norm", "lr", "samples_per_s", "mfu", "memory_host_gb"} <= lines[-1].keys()
    assert [step for _, step in list_checkpoints(uninterrupted)] == [8, 9]
    assert json.loads((uninterrupted / "finished.json").read_text())["step"] == 9
    assert list((uninterrupted / "tensorboard").glob("events.*"))
    assert not torch.distributed.is_initialized()


def test_a_finished_run_returns_at_once(uninterrupted, toy):
    before = (uninterrupted / "export" / "model.safetensors").stat().st_mtime_ns
    again = api.pretrain(**toy.arguments(uninterrupted.parent, max_steps=9))
    assert again == uninterrupted
    assert (uninterrupted / "export" / "model.safetensors").stat().st_mtime_ns == before


def test_a_finished_run_of_other_arguments_is_an_error(uninterrupted, toy):
    changed = toy.arguments(uninterrupted.parent, max_steps=9) | {"optim": toy.optimizer(lr=0.5)}
    with pytest.raises(ConfigError, match=r"log\.name"):
        api.pretrain(**changed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_call_goes_on_bit_identically(
    uninterrupted, toy, tmp_path, number
):
    handler = signal.getsignal(number)
    stopped = toy.arguments(tmp_path, max_steps=9)
    stopped["trainer"].callbacks.append(StopAfter(6, number))
    with pytest.raises(StoppedError, match="step 6 is saved"):
        api.pretrain(**stopped)
    assert not (tmp_path / "toy" / "export").exists()
    assert signal.getsignal(number) == handler
    arguments = toy.arguments(tmp_path, max_steps=9)
    folder = api.pretrain(**arguments)
    assert Path(arguments["trainer"].ckpt_path).parent.name == "step=000006"
    assert_same(exported(folder), exported(uninterrupted))
    steps = [line["step"] for line in read_curves(folder)]
    assert steps == list(range(1, 10))


def test_resume_is_bit_identical_in_bf16_and_without_ema(toy, tmp_path):
    options = {"precision": "bf16-mixed", "ema": False, "save_every": 3}
    whole = api.pretrain(**toy.arguments(tmp_path / "whole", 6, **options))
    api.pretrain(**toy.arguments(tmp_path / "parts", 4, **options))
    parts = api.pretrain(**toy.arguments(tmp_path / "parts", 6, **options))
    assert_same(exported(parts), exported(whole))


def test_the_export_holds_the_average(uninterrupted, toy, tmp_path):
    plain = api.pretrain(**toy.arguments(tmp_path, max_steps=9, ema=False))
    pairs = zip(exported(plain).values(), exported(uninterrupted).values(), strict=True)
    assert all(not torch.equal(weight, average) for weight, average in pairs)


def test_finetune_starts_from_an_export_and_names_new_parameters(uninterrupted, toy, tmp_path):
    arguments = toy.arguments(tmp_path, max_steps=1, ema=False)
    arguments["model"] = toy.ToyModel(control=True)
    arguments["optim"] = toy.optimizer(lr=0.0)
    restore = nl.RestoreConfig(path=str(uninterrupted / "export"))
    arguments["resume"] = RunResume(restore_config=restore)
    folder = api.finetune(**arguments)
    tuned, start = exported(folder), exported(uninterrupted)
    assert set(tuned) - set(start) == {"controls.weight", "controls.bias"}
    assert_same({name: tuned[name] for name in start}, start)
    [initial] = [c for c in arguments["trainer"].callbacks if hasattr(c, "new_names")]
    assert initial.new_names == ["controls.bias", "controls.weight"]


def test_finetune_refuses_weights_of_another_model(uninterrupted, toy, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    from safetensors.torch import save_file

    save_file({"inner.wrong": torch.zeros(2)}, other / "model.safetensors")
    resume = nl.AutoResume(restore_config=nl.RestoreConfig(path=str(other)))
    with pytest.raises(CheckpointError, match=r"inner\.weight.*unexpected \(inner\.wrong\)"):
        api.finetune(**toy.arguments(tmp_path, max_steps=1), resume=resume)


def test_a_resume_says_what_it_changed_and_refuses_a_checkpoint_of_another_model(
    toy, tmp_path, capfd
):
    api.pretrain(**toy.arguments(tmp_path, max_steps=2, save_every=2))
    assert "changed" not in capfd.readouterr().err
    api.pretrain(**toy.arguments(tmp_path, max_steps=3, save_every=2))
    said = capfd.readouterr().err
    assert "step=000002" in said
    assert "4 tensors matched, 0 missing, 0 unexpected; 4 changed" in said
    wider = toy.arguments(tmp_path, max_steps=4) | {"model": toy.ToyModel(width=17)}
    with pytest.raises(CheckpointError, match=r"of 4 tensors expected, 1 matched; 3 of another"):
        api.pretrain(**wider)


def test_weights_that_change_nothing_stop_a_run(toy, tmp_path):
    """A run that learns nothing exports the very weights that the next one begins with."""
    still = toy.arguments(tmp_path, max_steps=2, save_every=2, name="still")
    folder = api.pretrain(**still, optim=toy.optimizer(lr=0.0))
    for start in (folder / "export", folder / "checkpoints" / "step=000002"):
        resume = RunResume(restore_config=nl.RestoreConfig(path=str(start)))
        with pytest.raises(CheckpointError, match=r"changed nothing: 4 tensors matched"):
            api.finetune(**toy.arguments(tmp_path, max_steps=1, name="next"), resume=resume)


def test_finetune_without_weights_is_an_error(toy, tmp_path):
    with pytest.raises(MissingFileError, match=r"resume\.restore_config\.path"):
        api.finetune(**toy.arguments(tmp_path, max_steps=1))
    resume = nl.AutoResume(restore_config=nl.RestoreConfig(path=str(tmp_path / "nowhere")))
    with pytest.raises(MissingFileError, match="nowhere"):
        api.finetune(**toy.arguments(tmp_path, max_steps=1), resume=resume)


def test_weights_of_another_format_are_converted_first(toy, tmp_path):
    original = tmp_path / "model.pt"
    torch.save({"net.x": torch.ones(1)}, original)
    diffusers = tmp_path / "hf"
    diffusers.mkdir()
    (diffusers / "model_index.json").write_text("{}")
    for place in (original, diffusers):
        resume = RunResume(restore_config=nl.RestoreConfig(path=str(place)))
        with pytest.raises(ConfigError, match=f"nemo-cosmos import {place} WORLD"):
            api.finetune(**toy.arguments(tmp_path, max_steps=1), resume=resume)
    (diffusers / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="is an adapter, not a model"):
        api.finetune(**toy.arguments(tmp_path, max_steps=1), resume=resume)


class WatchValidation(pl.Callback):
    """The largest weight after a step, in the validation behind it, and after that."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def note(self, trainer, *_) -> None:
        weights = trainer.strategy.trained_weights()
        self.seen.append(max(float(weight.detach().max()) for weight in weights))

    on_train_batch_end = on_validation_start = on_validation_end = note


def test_validation_uses_the_average_and_puts_the_weights_back(toy, tmp_path):
    arguments = toy.arguments(tmp_path, 4, limit_val_batches=2, val_check_interval=4)
    watch = WatchValidation()
    arguments["trainer"].callbacks.append(watch)  # behind the average
    folder = api.pretrain(**arguments)
    assert any("val_loss" in line for line in read_curves(folder))
    trained, validated, restored = watch.seen[-3:]
    assert trained == restored != validated


@pytest.mark.slow
def test_kill_9_loses_at_most_the_steps_since_the_last_save(uninterrupted, toy, tmp_path):
    command = [sys.executable, str(TOY), str(tmp_path), "9", "0.3"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until_s = time.monotonic() + 120
    while not list_checkpoints(tmp_path / "toy") and time.monotonic() < until_s:
        assert process.poll() is None, process.stderr.read().decode()[-2000:]
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert [step for _, step in list_checkpoints(tmp_path / "toy")] == [4]
    (tmp_path / "toy" / "checkpoints" / "step=000004-last").unlink(missing_ok=True)
    arguments = toy.arguments(tmp_path, max_steps=9)
    folder = api.pretrain(**arguments)
    assert Path(arguments["trainer"].ckpt_path).parent.name == "step=000004"
    assert_same(exported(folder), exported(uninterrupted))
