"""What counts as a rank, and what is only left over in the environment."""

from __future__ import annotations

import os

import pytest

from nemo_cosmos.platform import ensure_model_parallel, ranks, shutdown_model_parallel

TORCHRUN = {
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "node7",
    "MASTER_PORT": "29500",
}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ranks.RANK_VARIABLES, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


def _set(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_torchrun_says_how_many_and_which(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, TORCHRUN)
    assert ranks.is_rank()
    assert (ranks.num_processes(), ranks.local_rank()) == (4, 1)
    assert not ranks.is_first_process()
    with ranks.alone_unless_launched():
        assert os.environ["RANK"] == "3"


@pytest.mark.parametrize("missing", ["LOCAL_RANK", "MASTER_PORT"])
def test_what_is_left_over_makes_no_rank(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    _set(monkeypatch, {name: value for name, value in TORCHRUN.items() if name != missing})
    assert not ranks.is_rank()
    assert (ranks.num_processes(), ranks.local_rank()) == (1, 0)
    assert ranks.is_first_process()
    with ranks.alone_unless_launched():
        assert "RANK" not in os.environ
    assert os.environ["RANK"] == "3"
    shutdown_model_parallel()
    ensure_model_parallel()  # waits for nobody
    shutdown_model_parallel()


@pytest.mark.parametrize(("tasks", "is_one_of_several"), [("1", False), ("8", True)])
def test_only_a_step_of_several_tasks_has_ranks(
    monkeypatch: pytest.MonkeyPatch, tasks: str, is_one_of_several: bool
) -> None:
    _set(monkeypatch, {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": tasks})
    assert ranks.is_srun_rank() is is_one_of_several
