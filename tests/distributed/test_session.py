"""Weights and optimiser state on two ranks: each rank reads, replaces and saves its own parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_cosmos.testing.processes import ProcessPool
from tests.distributed.training_case import Layout, save_state, train_shifted

LAYOUTS = {
    "dp": Layout(),
    "fsdp": Layout(fsdp="megatron"),
    "tp_sp": Layout(tensor_model_parallel_size=2, sequence_parallel=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_weights_are_replaced_on_two_ranks(
    name: str, two_processes: ProcessPool, tmp_path: Path
) -> None:
    reports = two_processes.run(train_shifted, LAYOUTS[name], str(tmp_path))
    whole: dict[str, int] = {}
    for _, sizes, error in reports:
        assert error == 0.0, "float32 weights, not what bfloat16 rounds them to"
        whole |= sizes
    most = max(num_read for num_read, _, _ in reports)
    assert (most < 0.7 * sum(whole.values())) == (name != "dp"), "no rank reads another's parts"


@pytest.mark.slow
def test_each_rank_saves_its_own_share_of_the_optimiser(
    two_processes: ProcessPool, tmp_path: Path
) -> None:
    """Without gathering or copying, in the form that loads into every layout."""
    saved = two_processes.run(save_state, str(tmp_path))
    assert {each.kind for each in saved} == {"fully_reshardable"}
    num_trained = saved[0].num_trained
    assert sum(each.num_saved for each in saved) == 3 * num_trained
    assert max(each.num_saved for each in saved) < 0.6 * 3 * num_trained
    assert not any(each.has_copies for each in saved)
