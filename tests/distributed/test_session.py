"""A session's weights on two ranks: each rank reads and replaces its own parts, in float32."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_cosmos.testing.processes import ProcessPool
from tests.distributed.training_case import Layout, train_shifted

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
