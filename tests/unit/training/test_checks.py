"""Arguments that do not fit each other are refused before anything starts."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.training.checks import check_batches, check_processes, check_run
from nemo_cosmos.training.strategy import WorldStrategy
from nemo_cosmos.training.trainer import WorldTrainer


def test_processes_must_divide_into_models() -> None:
    strategy = WorldStrategy(tensor_model_parallel_size=2, context_parallel_size=3)
    check_processes(strategy, 12)
    with pytest.raises(ConfigError, match=r"over 6 processes.*do not divide the 8.*multiple"):
        check_processes(strategy, 8)


def test_copies_of_a_model_must_divide_its_processes() -> None:
    strategy = WorldStrategy(fsdp="megatron", num_distributed_optimizer_instances=2)
    check_processes(strategy, 4)
    with pytest.raises(ConfigError, match=r"instances=2 does not divide the 3 processes"):
        check_processes(strategy, 3)
    with pytest.raises(ConfigError, match=r"instances=2 does not divide the 1 process over"):
        check_processes(strategy, 1)


def test_fsdp_needs_processes_to_share_with() -> None:
    check_processes(WorldStrategy(fsdp="megatron", context_parallel_size=2), 2)
    with pytest.raises(ConfigError, match=r"\(1 process, 1 of them.* 1 copy of the model\)"):
        check_processes(WorldStrategy(fsdp="megatron"), 1)
    with pytest.raises(ConfigError, match=r"nothing to shard.*2 processes.*2 copies"):
        strategy = WorldStrategy(fsdp="megatron", num_distributed_optimizer_instances=2)
        check_processes(strategy, 2)
    with pytest.raises(ConfigError, match=r"nothing to shard.*2 of them tensor-parallel"):
        check_processes(WorldStrategy(fsdp="megatron", tensor_model_parallel_size=2), 2)


def test_the_launcher_must_have_started_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "host", "MASTER_PORT": "1"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    check_processes(WorldStrategy(), 2)
    with pytest.raises(ConfigError, match=r"launcher started 2 processes.*is 4"):
        check_processes(WorldStrategy(), 4)


@pytest.mark.parametrize("max_steps", [-1, 0])
def test_a_run_needs_a_length(max_steps: int) -> None:
    with pytest.raises(ConfigError, match=rf"trainer\.max_steps={max_steps} is no length"):
        WorldTrainer(max_steps=max_steps)


@pytest.mark.parametrize(
    ("micro", "whole", "copies", "nearest"), [(2, 3, 1, 4), (1, 6, 4, 8), (4, 1, 2, 8)]
)
def test_batches_must_divide(micro: int, whole: int, copies: int, nearest: int) -> None:
    check_batches(micro, micro * copies * 3, copies)
    with pytest.raises(ConfigError, match=rf"not a multiple.*data\.global_batch_size={nearest},"):
        check_batches(micro, whole, copies)


def test_a_run_is_checked_as_a_whole() -> None:
    trainer = SimpleNamespace(strategy=WorldStrategy(context_parallel_size=2), world_size=4)
    sampler = SimpleNamespace(micro_batch_size=2, global_batch_size=8)
    model = SimpleNamespace(config=SimpleNamespace(num_layers=1))
    check_run(model, SimpleNamespace(data_sampler=sampler), trainer)
    sampler.global_batch_size = 6
    with pytest.raises(ConfigError, match="the 2 copies of the model"):
        check_run(model, SimpleNamespace(data_sampler=sampler), trainer)
    model.config.num_layers = 0
    with pytest.raises(ConfigError, match=r"num_layers=0 leaves nothing to train"):
        check_run(model, SimpleNamespace(), trainer)


@pytest.mark.parametrize("is_allocated", [False, True])
def test_a_login_node_of_slurm_is_a_machine_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_allocated: bool
) -> None:
    program = tmp_path / "srun"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    if is_allocated:
        left_over = {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
        left_over |= {"SLURM_JOB_ID": "1", "WORLD_SIZE": "8", "RANK": "3", "MASTER_ADDR": "node7"}
        for name, value in left_over.items():
            monkeypatch.setenv(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer = WorldTrainer(max_steps=1)
    assert (trainer.world_size, trainer.global_rank) == (1, 0)
    if is_allocated:
        assert os.environ["WORLD_SIZE"] == "8"  # the user's shell stays as it was


def test_a_rank_that_srun_started_is_one_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    task = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    task |= {"SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "0"}
    for name, value in task.items():
        monkeypatch.setenv(name, value)
    trainer = WorldTrainer(max_steps=1, devices=2, accelerator="cpu")
    assert (trainer.world_size, trainer.global_rank) == (2, 1)
    # The job's script puts it back into the queue, once.
    assert not trainer._accelerator_connector.cluster_environment.auto_requeue
