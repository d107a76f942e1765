"""Process groups that are made again in the same processes, or in those that are started again."""

from __future__ import annotations

import os

import pytest
import torch

from nemo_cosmos.testing.processes import ProcessPool


def sum_in_new_groups(starts: tuple[str, ...]) -> list[float]:
    """What the ranks add up to in groups that are made and destroyed, one set after the other.

    Args:
        starts: how often torchrun has started the processes before each set.
    """
    from nemo_cosmos.platform import distributed, ensure_model_parallel
    from nemo_cosmos.platform.distributed import shutdown_model_parallel

    sums = []
    for start in starts:
        if start != os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"):
            distributed._served = None  # as in a new process
        os.environ["TORCHELASTIC_RESTART_COUNT"] = start
        ensure_model_parallel()
        value = torch.ones(1)
        torch.distributed.all_reduce(value)
        sums.append(float(value))
        shutdown_model_parallel()
    del os.environ["TORCHELASTIC_RESTART_COUNT"]
    return sums


@pytest.mark.slow
@pytest.mark.parametrize("starts", [("0", "0", "0"), ("0", "1", "2")])
def test_groups_are_made_again(two_processes: ProcessPool, starts: tuple[str, ...]) -> None:
    """The launcher's store is still that of the former ones, whose addresses it holds."""
    assert two_processes.run(sum_in_new_groups, starts, timeout_s=600.0) == [[2.0] * 3] * 2
