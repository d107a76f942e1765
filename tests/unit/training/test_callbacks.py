"""The callbacks alone, with a stand-in for the trainer."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nemo.utils import AppState

from nemo_cosmos.checkpoint.formats.nemo import weights_folder
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import device, ensure_model_parallel
from nemo_cosmos.storage.run_curves import read_curves
from nemo_cosmos.training.callbacks.curves import number
from nemo_cosmos.training.callbacks.progress import Progress
from nemo_cosmos.training.callbacks.samples import SampleVideos
from nemo_cosmos.training.callbacks.signals import StopOnSignal
from nemo_cosmos.training.callbacks.throughput import Throughput, batch_size, find_peak_tflops
from nemo_cosmos.training.checkpointing.random_state import generator_states, set_generator_states
from nemo_cosmos.training.fingerprint import fingerprint
from nemo_cosmos.training.run_folder import find_runs, list_checkpoints
from nemo_cosmos.training.trainer import WorldTrainer
from nemo_cosmos.video import Video


def fake_trainer(**changes):
    values = {
        "global_step": 10,
        "max_steps": 20,
        "log_every_n_steps": 10,
        "world_size": 1,
        "is_global_zero": True,
        "callbacks": [],
        "loggers": [],
        "callback_metrics": {"reduced_train_loss": torch.tensor(0.5)},
        "should_stop": False,
        "strategy": SimpleNamespace(
            tensor_model_parallel_size=1,
            pipeline_model_parallel_size=1,
            context_parallel_size=1,
            virtual_pipeline_model_parallel_size=None,
            sync_weights=lambda: None,
        ),
    }
    return SimpleNamespace(**{**values, **changes})


def test_progress_prints_lines_when_piped(capsys):
    bar, trainer = Progress("world"), fake_trainer(global_step=0)
    bar.on_train_start(trainer, None)
    trainer.global_step = 20
    bar.on_train_batch_end(trainer)
    bar.on_train_end(trainer, None)
    line = capsys.readouterr().err
    assert "world: 20 of 20 steps" in line
    assert "loss 0.5000" in line
    assert "steps/s" in line and "left" in line


def test_progress_reads_the_loss_only_to_print_it(capsys):
    """On a GPU, reading waits for the whole step."""
    reads = []

    class Loss:
        def __float__(self):
            reads.append(trainer.global_step)
            return 0.25

    bar = Progress()
    trainer = fake_trainer(global_step=0, callback_metrics={"reduced_train_loss": Loss()})
    bar.on_train_start(trainer, None)
    for trainer.global_step in range(1, 21):
        bar.on_train_batch_end(trainer)
    assert not reads
    bar.on_train_end(trainer, None)
    assert reads == [20]
    assert "loss 0.2500" in capsys.readouterr().err


def test_progress_is_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    bar, trainer = Progress("world"), fake_trainer(global_step=0)
    bar.on_train_start(trainer, None)
    trainer.global_step = 20
    bar.on_train_batch_end(trainer)
    bar.on_exception(trainer, None, KeyboardInterrupt())
    assert "20/20" in capsys.readouterr().err


def test_sample_videos_are_written_with_the_generator_untouched(tmp_path, monkeypatch):
    monkeypatch.setattr(AppState(), "log_dir", tmp_path, raising=False)
    video = Video(np.zeros((3, 32, 48, 3), np.uint8), fps=8.0)

    def sampler(module):
        torch.rand(5)
        assert not torch.is_grad_enabled()
        return {"prompt": video}

    module = torch.nn.Linear(1, 1)
    callback, before = SampleVideos(sampler, every_n_steps=10), torch.get_rng_state()
    callback.on_train_batch_end(fake_trainer(), module)
    callback.on_train_batch_end(fake_trainer(global_step=11), module)
    assert torch.equal(torch.get_rng_state(), before)
    assert module.training
    [written] = (tmp_path / "samples").rglob("*.mp4")
    assert written.parent.name == "step=000010"


def test_throughput_counts_between_logs():
    class Module:
        device = torch.device("cpu")
        training = True

        def __init__(self):
            self.logged = {}

        def flops_and_tokens(self, batch):
            return 3e9, 100

        def log(self, name, value, **_):
            self.logged[name] = value

    callback, module = Throughput(peak_tflops=2.0), Module()
    trainer = fake_trainer(world_size=4)
    callback.on_train_start(trainer, module)
    callback.on_megatron_microbatch_end(SimpleNamespace(pl_module=module), {"x": torch.ones(8, 2)})
    module.training = False
    callback.on_megatron_microbatch_end(SimpleNamespace(pl_module=module), {"x": torch.ones(8, 2)})
    callback.on_train_batch_start(trainer)
    callback.on_train_batch_end(trainer, module)
    logged = module.logged
    assert logged["samples_per_s"] * logged["step_time_s"] == pytest.approx(32, rel=1e-3)
    assert logged["tokens_per_s"] / logged["samples_per_s"] == pytest.approx(100 / 8)
    assert logged["mfu"] == pytest.approx(logged["tflops_per_device"] / 2)


def test_batch_size_is_that_of_the_first_tensor():
    assert batch_size({"key": ["a"], "x": torch.ones(3)}) == 3
    assert batch_size(None) == 0


def test_peak_is_measured_where_no_table_has_it():
    assert find_peak_tflops(torch.device("cpu")) > 0


def test_numbers_fit_json():
    assert number(torch.tensor(1 / 3)) == 0.333333
    assert number(float("nan")) is None


@pytest.mark.parametrize(("on_gpu", "stops_at"), [(False, 2), (True, 4)])
def test_ranks_agree_to_stop_at_every_step_or_on_gpus_at_every_fourth(
    monkeypatch, on_gpu, stops_at
):
    """Their answer waits for a GPU; until then no rank may believe that all stop."""
    ensure_model_parallel()
    monkeypatch.setattr(device, "has_cuda", lambda: on_gpu)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    stop, trainer = StopOnSignal(), fake_trainer(world_size=2, strategy=strategy)
    stop.on_train_start(trainer, None)
    try:
        for trainer.global_step in range(1, 9):
            if trainer.global_step == 2:
                signal.raise_signal(signal.SIGTERM)
            stop.on_train_batch_end(trainer)
            assert bool(stop.received) == trainer.should_stop
            if trainer.should_stop:
                break
    finally:
        stop.on_train_end(trainer, None)
    assert trainer.global_step == stops_at
    assert stop.received == signal.SIGTERM


def test_a_second_interrupt_stops_at_once():
    stop = StopOnSignal()
    stop._note(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        stop._note(signal.SIGINT, None)


def test_generators_go_on_where_they_were():
    states = generator_states()
    first = (torch.rand(3), np.random.rand(3))
    set_generator_states(states)
    assert torch.equal(torch.rand(3), first[0])
    assert np.array_equal(np.random.rand(3), first[1])


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    from nemo_cosmos.errors import CheckpointError

    with pytest.raises(CheckpointError, match=r"metadata\.json"):
        weights_folder(tmp_path)


def test_unfinished_checkpoints_and_cut_lines_are_left_out(tmp_path):
    run = tmp_path / "a" / "run"
    for name in ("step=000002", "step=000004", "step=000004-last", "other"):
        (run / "checkpoints" / name).mkdir(parents=True)
    (run / "checkpoints" / "step=000004-unfinished").touch()
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2')
    assert [step for _, step in list_checkpoints(run)] == [2]
    assert read_curves(run) == [{"step": 1}]
    assert find_runs(tmp_path) == [run]
    assert list_checkpoints(tmp_path) == []


def test_fingerprints_tell_arguments_apart(toy):
    same = fingerprint(toy.ToyModel(), toy.ToyData(), toy.optimizer())
    assert same == fingerprint(toy.ToyModel(), toy.ToyData(), toy.optimizer())
    assert same != fingerprint(toy.ToyModel(), toy.ToyData(), toy.optimizer(lr=1.0))
    assert same != fingerprint(toy.ToyModel(control=True), toy.ToyData(), toy.optimizer())


def test_unknown_precision_is_an_error():
    with pytest.raises(ConfigError, match="bf16-mixed"):
        WorldTrainer(precision="bf17")
