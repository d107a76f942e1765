"""The kit for tests on several processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from nemo_cosmos.testing.processes import (
    DistributedTestError,
    ProcessPool,
    run_distributed_test,
)


def add_up(start: int, *, factor: int = 1) -> tuple[int, int, torch.Tensor]:
    dist.init_process_group("gloo")
    value = torch.tensor([float(start + factor * dist.get_rank())])
    dist.all_reduce(value)
    return dist.get_rank(), os.getpid(), value


def fail_on_one_rank_while_the_other_waits() -> None:
    dist.init_process_group("gloo")
    if dist.get_rank() == 1:
        raise ValueError("the second rank is unwell")
    dist.barrier()


def hang_here() -> None:
    while os.environ["RANK"] == "0":
        time.sleep(0.01)


def die() -> None:
    os._exit(7)


def leave_child_and_output(path: str) -> None:
    Path(path).joinpath(os.environ["RANK"]).write_text(os.environ["WORLD_SIZE"])
    print("said on standard output")
    raise RuntimeError("stop")


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPool]:
    with ProcessPool(2) as pool:
        yield pool


def test_many_cases_in_the_same_processes_each_in_a_group_of_its_own(pool: ProcessPool) -> None:
    first, second = pool.run(add_up, 1), pool.run(add_up, 10, factor=5)
    assert [rank for rank, *_ in first] == [0, 1]
    assert [value.item() for *_, value in first] == [3.0, 3.0]
    assert [value.item() for *_, value in second] == [25.0, 25.0]
    assert [process for _, process, _ in first] == [process for _, process, _ in second]
    assert first[0][1] != first[1][1] != os.getpid()


def test_a_failure_ends_all_ranks_and_tells_each_one_s_account(pool: ProcessPool) -> None:
    with pytest.raises(DistributedTestError, match="failed on 2 processes") as error:
        pool.run(fail_on_one_rank_while_the_other_waits, timeout_s=60)
    message = str(error.value)
    assert "ValueError: the second rank is unwell" in message
    assert "rank 0" in message and "barrier" in message
    assert [value.item() for *_, value in pool.run(add_up, 1)] == [3.0, 3.0], "it starts anew"


def test_a_rank_that_hangs_shows_where(pool: ProcessPool) -> None:
    with pytest.raises(DistributedTestError, match="did not finish in") as error:
        pool.run(hang_here, timeout_s=0.5)
    assert "in hang_here" in str(error.value)
    assert "rank 1 finished" in str(error.value)


def test_a_rank_that_dies(pool: ProcessPool) -> None:
    with pytest.raises(DistributedTestError, match="exit code 7"):
        pool.run(die)


def test_one_shot_shows_what_was_printed(tmp_path: Path) -> None:
    with pytest.raises(DistributedTestError, match="said on standard output"):
        run_distributed_test(leave_child_and_output, 2, str(tmp_path))
    assert sorted(file.read_text() for file in tmp_path.iterdir()) == ["2", "2"]
