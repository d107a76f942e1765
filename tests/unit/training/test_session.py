"""A session: advanced in parts, its weights read, replaced and averaged, and ended at any time."""

from __future__ import annotations

import shutil
import signal
import weakref
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from megatron.core.distributed import DistributedDataParallelConfig
from nemo import lightning as nl
from safetensors.torch import load_file

from nemo_cosmos import api
from nemo_cosmos.errors import (
    CheckpointError,
    ConfigError,
    MachineError,
    NemoCosmosError,
    NumericsError,
    Preempted,
)
from nemo_cosmos.exits import Exit, saved_or_too_short
from nemo_cosmos.models.common.megatron.parts import TensorPart
from nemo_cosmos.platform.accelerator import self_check
from nemo_cosmos.platform.accelerator.self_check import KernelCheck
from nemo_cosmos.storage.run_curves import read_curves
from nemo_cosmos.training.checkpointing.resume import RunResume
from nemo_cosmos.training.resilience.settings import Resilience
from nemo_cosmos.training.run_folder import list_checkpoints
from nemo_cosmos.training.session import TrainingSession
from nemo_cosmos.training.strategy import WorldStrategy

STEPS = 9


def exported(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "export" / "model.safetensors")


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


def by_name(parts) -> dict[str, torch.Tensor]:
    return {part.name: part.tensor for part in parts}


def mean(sites: list[list[TensorPart]]) -> list[TensorPart]:
    return [
        replace(parts[0], tensor=torch.stack([part.tensor for part in parts]).mean(0))
        for parts in zip(*sites, strict=True)
    ]


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory) -> Path:
    """A run that was never interrupted."""
    return api.pretrain(**toy.arguments(tmp_path_factory.mktemp("whole"), STEPS))


@pytest.fixture(scope="module")
def parts(toy, tmp_path_factory) -> Path:
    """The same run, looked at between its steps."""
    arguments = toy.arguments(tmp_path_factory.mktemp("parts"), STEPS)
    with TrainingSession.start(**arguments) as session:
        assert session.step == 0 and not session.is_done
        assert session.advance(0) == 0
        assert session.advance(4) == 4
        with torch.no_grad():  # what the caller does between steps is nothing to them
            before = by_name(session.weights())
        assert session.advance(1) == 5
        assert not torch.equal(before["inner.weight"], by_name(session.weights())["inner.weight"])
        assert session.advance(100) == STEPS
        assert session.is_done
        return session.finish()


def test_steps_in_parts_equal_one_run_bit_for_bit(whole, parts):
    assert_same(exported(parts), exported(whole))
    losses = [[(line["step"], line["loss"]) for line in read_curves(run)] for run in (whole, parts)]
    assert losses[0] == losses[1]
    assert list_checkpoints(parts)[-1][1] == STEPS


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_replaced_weights_are_those_that_are_trained(toy, tmp_path, precision):
    arguments = toy.arguments(tmp_path, 3, precision=precision, ema=False)
    arguments["optim"] = toy.optimizer(lr=0.0)
    with TrainingSession.start(**arguments) as session:
        session.advance(1)
        new = [replace(part, tensor=part.tensor + 0.12345) for part in session.weights()]
        session.replace(new)
        assert_same(by_name(session.weights()), by_name(new))
        session.advance(1)  # at a learning rate of zero the optimiser writes its own copies back
        assert_same(by_name(session.weights()), by_name(new))


def test_only_parts_of_this_rank_can_be_replaced(toy, tmp_path):
    with TrainingSession.start(**toy.arguments(tmp_path, 3)) as session:
        before = list(session.weights())
        wrong = [before[1], replace(before[0], name="inner.wieght")]
        with pytest.raises(CheckpointError, match=r"inner\.wieght.*'inner\.weight'"):
            session.replace([replace(before[1], tensor=before[1].tensor + 1.0), *wrong])
        assert_same(by_name(session.weights()), by_name(before))


def rounds(toy, folder: Path, batch_sizes: tuple[int, ...]) -> list[list[TensorPart]]:
    """Train sites in turns of three steps, each from the mean of all; return each site's last."""
    shared: list[TensorPart] = []
    latest: list[list[TensorPart]] = []
    for _ in range(3):
        latest = []
        for number, batch_size in enumerate(batch_sizes):
            arguments = toy.arguments(folder / f"site{number}", STEPS, ema=False)
            arguments["data"] = toy.ToyData(batch_size=batch_size)
            with TrainingSession.start(**arguments) as session:
                session.replace(shared)
                assert not shared or torch.equal(
                    by_name(session.weights())["outer.bias"], by_name(shared)["outer.bias"]
                )
                session.advance(3)
                latest.append(list(session.weights()))
                session.save()
        shared = mean(latest)
    return latest


def test_sites_average_their_weights_and_continue(toy, tmp_path):
    first, second = rounds(toy, tmp_path, (4, 2))
    assert not torch.equal(by_name(first)["inner.weight"], by_name(second)["inner.weight"])
    assert [step for _, step in list_checkpoints(tmp_path / "site0" / "toy")] == [8, 9]
    losses = [line["loss"] for line in read_curves(tmp_path / "site0" / "toy")]
    assert losses[-1] < losses[0]


def test_averaging_equal_sites_changes_nothing(toy, tmp_path):
    alone = api.pretrain(**toy.arguments(tmp_path, STEPS, ema=False))
    first, second = rounds(toy, tmp_path, (4, 4))
    assert_same(by_name(first), exported(alone))
    assert_same(by_name(second), exported(alone))


def test_a_run_that_died_before_its_export_was_complete_can_finish(whole, toy, tmp_path):
    folder = tmp_path / "toy"
    shutil.copytree(whole, folder, symlinks=True)
    (folder / "finished.json").unlink()
    (folder / "export").rename(folder / ".tmp-12345678-export")
    saved = {path: path.stat().st_mtime_ns for path, _ in list_checkpoints(folder)}
    assert api.pretrain(**toy.arguments(tmp_path, STEPS)) == folder
    assert_same(exported(folder), exported(whole))
    assert (folder / "finished.json").is_file()
    assert not list(folder.glob(".tmp-*"))
    assert {path: path.stat().st_mtime_ns for path, _ in list_checkpoints(folder)} == saved
    assert read_curves(folder) == read_curves(whole)


def test_a_file_that_is_missing_from_the_export_is_written_again(whole, toy, tmp_path):
    folder = tmp_path / "toy"
    shutil.copytree(whole, folder, symlinks=True)
    (folder / "export" / "config.json").unlink()
    assert api.pretrain(**toy.arguments(tmp_path, STEPS)) == folder
    assert (folder / "export" / "config.json").is_file()
    assert_same(exported(folder), exported(whole))


def test_a_file_of_the_export_that_was_cut_short_is_written_again(whole, toy, tmp_path):
    folder = tmp_path / "toy"
    shutil.copytree(whole, folder, symlinks=True)
    weights = folder / "export" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    assert api.pretrain(**toy.arguments(tmp_path, STEPS)) == folder
    assert_same(exported(folder), exported(whole))


def test_a_session_ends_early_and_another_continues_it(whole, toy, tmp_path):
    with TrainingSession.start(**toy.arguments(tmp_path, STEPS)) as session:
        session.advance(5)
        assert session.finish() == tmp_path / "toy"
    with pytest.raises(NemoCosmosError, match="closed"):
        session.advance(1)
    assert (tmp_path / "toy" / "export" / "model.safetensors").is_file()
    assert_same(exported(api.pretrain(**toy.arguments(tmp_path, STEPS))), exported(whole))


@pytest.mark.parametrize(
    ("settings", "precision", "sign"),
    [
        ({"check_for_nan_in_grad": True}, "32", "gradients are"),
        ({"check_for_nan_in_grad": False}, "32", "gradients are"),
        ({"check_for_nan_in_grad": False, "overlap_grad_reduce": True}, "32", "gradients are"),
        # The scaler of float16 takes gradients that are not finite for an overflow, for ever.
        ({"check_for_nan_in_grad": False}, "16-mixed", "the loss is"),
    ],
)
def test_divergence_says_where_and_what_to_try(toy, tmp_path, settings, precision, sign):
    strategy = WorldStrategy(ddp=DistributedDataParallelConfig(**settings))
    arguments = toy.arguments(tmp_path, STEPS, strategy=strategy, precision=precision)
    arguments["optim"] = toy.optimizer(lr=1e30)
    message = rf"diverged in step \d: {sign} (nan|inf|NaN|Inf).*1e\+30.*optim\.config\.lr"
    with pytest.raises(NumericsError, match=message):
        api.pretrain(**arguments)
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("place", [".", "checkpoints/step=000008"])
def test_finetune_starts_from_a_run_or_one_of_its_checkpoints(whole, toy, tmp_path, place):
    arguments = toy.arguments(tmp_path, 1, ema=False)
    arguments["optim"] = toy.optimizer(lr=0.0)
    restore = nl.RestoreConfig(path=str(whole / place))
    folder = api.finetune(**arguments, resume=RunResume(restore_config=restore))
    if place == ".":
        assert_same(exported(folder), exported(whole))
    else:  # weights of the step, not their average
        assert not torch.equal(exported(folder)["inner.weight"], exported(whole)["inner.weight"])
        again = toy.arguments(tmp_path / "again", 8, ema=False)
        assert_same(exported(folder), exported(api.pretrain(**again)))


def test_another_trainer_is_refused(toy, tmp_path):
    arguments = toy.arguments(tmp_path, 1)
    arguments["trainer"] = nl.Trainer(max_steps=1, accelerator="cpu", devices=1)
    with pytest.raises(ConfigError, match="WorldTrainer"):
        api.pretrain(**arguments)


def test_a_session_that_is_closed_gives_everything_back(toy, tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    with (
        pytest.raises(ZeroDivisionError),
        TrainingSession.start(**toy.arguments(tmp_path, 3)) as one,
    ):
        one.advance(1)
        assert signal.getsignal(signal.SIGTERM) != handler
        one.step / 0
    assert signal.getsignal(signal.SIGTERM) == handler
    assert not torch.distributed.is_initialized()
    assert not list_checkpoints(tmp_path / "toy")
    with TrainingSession.start(**toy.arguments(tmp_path, 3)) as two:
        assert two.advance(1) == 1


def gloo_threads() -> int:
    names = (task / "comm" for task in Path("/proc/self/task").iterdir())
    return sum(name.read_text().startswith("pt_gloo") for name in names)


def test_a_run_is_freed_when_the_next_one_starts(toy, tmp_path):
    threads, networks = [], []
    for number in range(4):
        with TrainingSession.start(**toy.arguments(tmp_path / str(number), 2)) as session:
            assert all(network() is None for network in networks)
            threads.append(gloo_threads())
            session.advance(2)
            networks.append(weakref.ref(session.trainer.strategy.megatron_parallel[0].module))
            session.finish()
        del session
    assert threads[1] == threads[2] == threads[3]


def test_data_without_a_batch_is_an_error(toy, tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ConfigError, match="yields no batch"):
        api.pretrain(**toy.arguments(tmp_path, 3, limit_train_batches=0))
    assert signal.getsignal(signal.SIGTERM) == handler


class SignalAt(pl.Callback):
    """Sends a signal to its own process after a step."""

    def __init__(self, step: int, *numbers: int) -> None:
        self.step, self.numbers = step, numbers

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == self.step:
            for number in self.numbers:
                signal.raise_signal(number)


@pytest.mark.parametrize("then", [(), (signal.SIGTERM,)])
def test_a_preempted_run_saves_and_asks_to_be_continued(whole, toy, tmp_path, then, no_work_yet):
    """Also where the queue sends SIGTERM before the step has ended."""
    handler = signal.getsignal(signal.SIGUSR1)
    arguments = toy.arguments(tmp_path, STEPS)
    arguments["trainer"].callbacks.insert(0, SignalAt(3, signal.SIGUSR1, *then))
    with pytest.raises(Preempted, match=r"step 3 is saved"):
        api.pretrain(**arguments)
    assert saved_or_too_short() is Exit.SAVED
    assert signal.getsignal(signal.SIGUSR1) == handler
    assert [step for _, step in list_checkpoints(tmp_path / "toy")] == [3]
    assert_same(exported(api.pretrain(**toy.arguments(tmp_path, STEPS))), exported(whole))


def test_a_preemption_in_the_last_step_ends_as_a_finished_run(whole, toy, tmp_path):
    arguments = toy.arguments(tmp_path, STEPS)
    arguments["trainer"].callbacks.insert(0, SignalAt(STEPS, signal.SIGUSR1))
    assert_same(exported(api.pretrain(**arguments)), exported(whole))


def test_a_machine_that_computes_noise_trains_nothing(toy, tmp_path, monkeypatch):
    noise = [KernelCheck("attention, bfloat16", error=0.9, limit=0.01)]
    monkeypatch.setattr(self_check, "check_kernels", lambda: noise)
    with pytest.raises(MachineError, match=r"rank 0, CPU.*attention, bfloat16 is off by 0\.9"):
        api.pretrain(**toy.arguments(tmp_path, 2))
    assert not (tmp_path / "toy" / "metrics.jsonl").exists()
    arguments = toy.arguments(tmp_path, 2, resilience=Resilience(check_machine=False))
    assert (api.pretrain(**arguments) / "export").is_dir()
