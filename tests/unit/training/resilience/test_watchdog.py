"""A hang ends the process with all stacks; what may take long is no hang."""

from __future__ import annotations

import threading

import pytest

from nemo_cosmos import api
from nemo_cosmos.exits import EXIT_FILE_VARIABLE, Exit
from nemo_cosmos.training.callbacks import hang_watch
from nemo_cosmos.training.callbacks.hang_watch import HangWatch
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint
from nemo_cosmos.training.resilience.settings import Resilience
from nemo_cosmos.training.resilience.watchdog import Watchdog
from nemo_cosmos.training.session import TrainingSession

LONG_S = 60.0


def test_a_hang_ends_the_process_with_its_stacks(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv(EXIT_FILE_VARIABLE, str(tmp_path / "exit"))
    left, codes = threading.Event(), []
    watchdog = Watchdog(tmp_path, 3, leave=lambda code: (codes.append(code), left.set()), grace_s=0)
    watchdog.beat("step 7", 0.1)
    watchdog.start()
    assert left.wait(LONG_S)
    watchdog.stop()
    assert codes == [Exit.HUNG]
    assert (tmp_path / "exit").read_text() == "76\n"
    [file] = (tmp_path / "stacks").iterdir()
    assert file.name.endswith("-rank00003.txt")
    for text in (file.read_text(), capfd.readouterr().err):
        assert "Rank 3 made no progress" in text and "in step 7" in text
        assert "test_a_hang_ends_the_process_with_its_stacks" in text, "the main thread's stack"


def test_beats_and_no_limit_keep_it_quiet(tmp_path):
    codes: list[int] = []
    watchdog = Watchdog(tmp_path, 0, leave=codes.append, grace_s=0)
    watchdog.beat("step 1", LONG_S)
    watchdog.start()
    watchdog.beat("nothing", 0.0)
    watchdog._stopped.wait(0.3)
    watchdog.stop()
    assert not codes and not (tmp_path / "stacks").exists()
    assert not [one for one in threading.enumerate() if one.name == "watchdog"]


@pytest.fixture
def limits(monkeypatch):
    """The limit that holds at each moment: name of the moment -> seconds."""

    class Recorder:
        now = 0.0

        def __init__(self, folder, rank): ...

        def beat(self, what, limit_s):
            Recorder.now = limit_s

        def start(self):
            seen["running"] = True

        def stop(self):
            seen["running"] = False

    seen: dict[str, float] = {}
    monkeypatch.setattr(hang_watch, "Watchdog", Recorder)
    save = StepCheckpoint._save_checkpoint

    def saving(self, trainer, path):
        seen[f"save {trainer.global_step}"] = Recorder.now
        save(self, trainer, path)

    monkeypatch.setattr(StepCheckpoint, "_save_checkpoint", saving)
    seen["now"] = lambda: Recorder.now
    return seen


def test_saves_validation_and_the_first_step_have_a_limit_of_their_own(toy, tmp_path, limits):
    class Model(toy.ToyModel):
        def training_step(self, batch, batch_idx=None):
            limits[f"step {self.trainer.global_step + 1}"] = limits["now"]()
            return super().training_step(batch)

        def validation_step(self, batch, batch_idx=None):
            limits["validation"] = limits["now"]()
            return super().training_step(batch)

    arguments = toy.arguments(
        tmp_path, 4, save_every=2, limit_val_batches=1, val_check_interval=2,
        resilience=Resilience(hang_minutes=1, hang_minutes_between=5, check_machine=False),
    )  # fmt: skip
    api.pretrain(**arguments | {"model": Model()})
    assert limits["step 1"] == 300
    assert limits["step 2"] == limits["step 3"] == limits["step 4"] == 60
    assert limits["save 2"] == limits["save 4"] == limits["validation"] == 300
    assert limits["running"] is False, "nothing watches a process that trains no more"


def test_a_session_that_waits_for_its_caller_is_not_watched(toy, tmp_path, limits):
    with TrainingSession.start(**toy.arguments(tmp_path, 4)) as session:
        session.advance(2)
        assert limits["now"]() == 0.0
        session.advance(1)
        assert limits["running"] is True
    assert limits["running"] is False


def test_no_limits_mean_no_watch(toy, tmp_path):
    off = Resilience(hang_minutes=0, hang_minutes_between=0)
    trainer = toy.arguments(tmp_path, 1, resilience=off)["trainer"]
    assert not [one for one in trainer.callbacks if isinstance(one, HangWatch)]
