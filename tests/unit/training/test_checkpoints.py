"""Checkpoints when things go wrong: kills, full disks, damage, other models, signals."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from nemo_cosmos import api
from nemo_cosmos.checkpoint.formats import checksums
from nemo_cosmos.checkpoint.formats.checksums import read_sums
from nemo_cosmos.errors import (
    CheckpointError,
    ConfigError,
    DamagedCheckpointError,
    StorageFullError,
)
from nemo_cosmos.platform.patches import checkpoint_sums
from nemo_cosmos.training.checkpointing import step_checkpoint, storage
from nemo_cosmos.training.checkpointing.storage import check_writable
from nemo_cosmos.training.checkpointing.whole import find_damage_together
from nemo_cosmos.training.run_folder import list_checkpoints

PROGRAM = Path(__file__).with_name("hard_times.py")
REPOSITORY = Path(__file__).parents[3]


def exported(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "export" / "model.safetensors")


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


@pytest.fixture(scope="module")
def uninterrupted(toy, tmp_path_factory) -> dict[str, torch.Tensor]:
    return exported(api.pretrain(**toy.arguments(tmp_path_factory.mktemp("whole"), 9)))


@pytest.fixture
def stopped(toy, tmp_path) -> Path:
    """A run with checkpoints at steps 4 and 6, and no export."""
    folder = api.pretrain(**toy.arguments(tmp_path, 6))
    shutil.rmtree(folder / "export")
    (folder / "finished.json").unlink()
    assert [step for _, step in list_checkpoints(folder)] == [4, 6]
    return folder


def go_on(toy, folder: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Run the same arguments in this process; what comes out and where it went on from."""
    arguments = toy.arguments(folder.parent, 9)
    api.pretrain(**arguments)
    return exported(folder), Path(arguments["trainer"].ckpt_path).parent.name


def start(folder: Path, kind: str, how: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(PROGRAM), str(folder), kind, how]
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def wait_for(condition, process: subprocess.Popen[bytes], folder: Path) -> None:
    until_s = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, (folder / "log.txt").read_text()[-3000:]
        assert time.monotonic() < until_s, (folder / "log.txt").read_text()[-3000:]
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_kill_during_a_save_leaves_the_checkpoint_before(uninterrupted, toy, tmp_path, how):
    process = start(tmp_path, "slow", how)
    folder = tmp_path / "toy"
    saving = folder / "checkpoints" / "step=000008"

    def is_saving() -> bool:
        files = list(saving.glob("weights/*.distcp"))
        return bool(files) and all(file.stat().st_size for file in files)

    wait_for(lambda: bool(list_checkpoints(folder)), process, tmp_path)
    wait_for(is_saving, process, tmp_path)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in children:
        child.kill()
    psutil.wait_procs(children, timeout=30)
    process.wait()
    assert saving.is_dir() and not (saving / "weights" / "metadata.json").exists()
    assert [step for _, step in list_checkpoints(folder)] == [4]
    result, origin = go_on(toy, folder)
    assert origin == "step=000004"
    assert_same(result, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_full_disk_is_one_error_and_loses_nothing(uninterrupted, toy, tmp_path, how):
    process = start(tmp_path, "full", how)
    assert process.wait(timeout=120) == 1
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    # The process that writes may log a line of its own after it.
    message = next((line for line in reversed(lines) if "StorageFullError" in line), "")
    assert "StorageFullError: No space left while saving into" in message
    assert "'step=000004' is intact" in message
    result, origin = go_on(toy, tmp_path / "toy")
    assert origin == "step=000004"
    assert_same(result, uninterrupted)


@pytest.mark.slow
def test_sigterm_saves_and_leaves(uninterrupted, toy, tmp_path):
    process = start(tmp_path, "plain", "async")
    folder = tmp_path / "toy"
    wait_for(lambda: bool(list_checkpoints(folder)), process, tmp_path)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    log = (tmp_path / "log.txt").read_text()
    [(_, step)] = list_checkpoints(folder)[-1:]
    assert f"Training stopped on a signal; step {step} is saved" in log
    assert 4 < step < 9 and not (folder / "export").exists()
    result, origin = go_on(toy, folder)
    assert origin == f"step={step:06d}"
    assert_same(result, uninterrupted)


def test_saving_in_the_background_changes_nothing(uninterrupted, toy, tmp_path):
    """What is written is the state at the save, however far training has gone on since."""
    whole = api.pretrain(**toy.arguments(tmp_path / "whole", 9, save_every=2, async_save=True))
    assert_same(exported(whole), uninterrupted)
    assert [step for _, step in list_checkpoints(whole)] == [8, 9]
    api.pretrain(**toy.arguments(tmp_path / "parts", 6, async_save=True))
    result, origin = go_on(toy, tmp_path / "parts" / "toy")
    assert origin == "step=000006"
    assert_same(result, uninterrupted)


def flip_a_bit(file: Path, place: float = 0.5) -> None:
    content = bytearray(file.read_bytes())
    content[int(len(content) * place)] ^= 4
    file.write_bytes(content)


DAMAGE = {
    "a flipped bit": lambda weights: flip_a_bit(next(weights.glob("__0_*.distcp"))),
    "cut off": lambda weights: os.truncate(next(weights.glob("__0_*.distcp")), 100),
    "a missing file": lambda weights: next(weights.glob("__0_*.distcp")).unlink(),
    "a missing table": lambda weights: (weights / ".metadata").unlink(),
    "a bit of the table": lambda weights: flip_a_bit(weights / ".metadata", 0.9),
    "a bit of common.pt": lambda weights: flip_a_bit(weights / "common.pt"),
    "a bit of the checksums": lambda weights: flip_a_bit(weights / "checksums.json"),
    "no end": lambda weights: (weights / "metadata.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_noticed(stopped, damage):
    newest = stopped / "checkpoints" / "step=000006"
    assert not find_damage_together(newest)
    damage(newest / "weights")
    assert find_damage_together(newest)


@pytest.mark.parametrize("name", ["a flipped bit", "a missing table"])
def test_in_place_of_a_damaged_checkpoint_the_one_before_is_used(
    uninterrupted, toy, stopped, caplog, name
):
    newest = stopped / "checkpoints" / "step=000006"
    DAMAGE[name](newest / "weights")
    result, origin = go_on(toy, stopped)
    assert origin == "step=000004"
    assert_same(result, uninterrupted)
    assert "step=000006' is damaged: " in caplog.text
    assert "set aside as 'step=000006-damaged', and the run goes on from 'step=000004'" in (
        caplog.text
    )
    assert newest.with_name("step=000006-damaged").is_dir()
    assert [step for _, step in list_checkpoints(stopped)] == [8, 9]


def test_a_damaged_checkpoint_without_another_is_an_error(toy, stopped):
    newest = stopped / "checkpoints" / "step=000006"
    shutil.rmtree(newest.with_name("step=000004"))
    DAMAGE["a flipped bit"](newest / "weights")
    with pytest.raises(DamagedCheckpointError, match=r"checksum is wrong.*no earlier one.*delete"):
        go_on(toy, stopped)
    assert [step for _, step in list_checkpoints(stopped)] == [6], "it is not set aside"


def test_a_checkpoint_without_checksums_is_loaded_with_a_word(uninterrupted, toy, stopped, caplog):
    (stopped / "checkpoints" / "step=000006" / "weights" / "checksums.json").unlink()
    result, origin = go_on(toy, stopped)
    assert origin == "step=000006"
    assert_same(result, uninterrupted)
    assert "was written without checksums" in caplog.text


def test_files_are_summed_while_they_are_written(toy, tmp_path, monkeypatch):
    """Whether the run waits for the writers or not; what they wrote is not read again."""
    read = []
    file_sum = checkpoint_sums.file_sum
    monkeypatch.setattr(
        checkpoint_sums, "file_sum", lambda file: read.append(file.name) or file_sum(file)
    )
    for name, how in (("sync", False), ("async", True)):
        folder = api.pretrain(**toy.arguments(tmp_path, 4, name=name, async_save=how))
        weights = list_checkpoints(folder)[-1][0] / "weights"
        sums = read_sums(weights)
        assert sums == {file: file_sum(weights / file) for file in sums}
        parts = {file.name for file in weights.glob("*.distcp")}
        assert {*parts, ".metadata", "common.pt"} <= sums.keys()
        assert read and not parts & set(read)


def test_ranks_share_the_reading():
    sums = {f"__{number}_0.distcp": (100 + number, 0) for number in range(10)}
    shares = [checksums._share(sums, rank, 3) for rank in range(3)]
    assert sorted(name for share in shares for name in share) == sorted(sums)
    assert [len(share) for share in shares] == [4, 3, 3]


def test_a_checkpoint_of_another_model_is_refused(toy, stopped):
    arguments = toy.arguments(stopped.parent, 9)
    arguments["model"] = toy.ToyModel(control=True)
    with pytest.raises(CheckpointError, match=r"2 missing \(module\.controls\.bias.*log\.name"):
        api.pretrain(**arguments)
    assert arguments["trainer"].global_step == 0
    assert [step for _, step in list_checkpoints(stopped)] == [4, 6]


def test_no_room_for_a_checkpoint_is_known_before_the_first_step(toy, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage(1, 1, 1000))
    arguments = toy.arguments(tmp_path, 9)
    with pytest.raises(StorageFullError, match=r"takes about .* GB free.*has not started"):
        api.pretrain(**arguments)
    assert arguments["trainer"].global_step == 0


def test_the_estimate_is_near_the_size_of_a_checkpoint(toy, tmp_path, monkeypatch):
    estimates = []
    monkeypatch.setattr(step_checkpoint, "check_room", lambda _, size: estimates.append(size))
    arguments = toy.arguments(tmp_path, 1)
    arguments["model"] = toy.ToyModel(width=600)
    folder = api.pretrain(**arguments)
    [(checkpoint, _)] = list_checkpoints(folder)
    size = sum(file.stat().st_size for file in checkpoint.rglob("*.distcp"))
    assert 0.5 * size < estimates[0] < 1.1 * size


def test_a_folder_that_cannot_be_written(toy, tmp_path):
    (tmp_path / "toy").write_text("a file in the way")
    with pytest.raises(ConfigError, match=r"cannot be written: .*log\.log_dir"):
        api.pretrain(**toy.arguments(tmp_path, 9))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_folder_of_somebody_else(tmp_path):
    tmp_path.chmod(0o755)
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            check_writable(tmp_path)
        except ConfigError as error:
            os._exit(0 if "Permission denied" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("text", ["unexpected pos 704 vs 598", "No space left on device (28)"])
def test_what_torch_says_of_a_full_disk_is_one_error(tmp_path, text):
    with (
        pytest.raises(StorageFullError, match=r"No space left while saving.*none yet"),
        storage.clear_storage_errors(tmp_path),
    ):
        raise RuntimeError(f"[enforce fail at inline_container.cc:664] . {text}")


def test_saving_by_steps_and_by_time_at_once_is_refused():
    with pytest.raises(ConfigError, match=r"log\.ckpt\.train_time_interval_s=null"):
        step_checkpoint.StepCheckpoint(every_n_train_steps=2, train_time_interval_s=150.0)
