"""The weights' average over ranks: exact, of the optimiser's weights, each share on one rank."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_cosmos.testing.processes import ProcessPool
from tests.distributed.training_case import Layout, train_averaged

LAYOUTS = {
    "dp": Layout(),
    "tp_sp": Layout(tensor_model_parallel_size=2, sequence_parallel=True),
    "pp": Layout(pipeline_model_parallel_size=2),
    "fsdp": Layout(fsdp="megatron"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overlap", "precision"),
    [
        ("dp", False, "bf16-mixed"),
        ("dp", True, "bf16-mixed"),
        ("dp", False, "32"),
        ("tp_sp", False, "bf16-mixed"),
        ("pp", False, "bf16-mixed"),
        ("fsdp", False, "bf16-mixed"),
    ],
)
def test_the_average_is_of_the_optimisers_weights(
    name: str, overlap: bool, precision: str, two_processes: ProcessPool, tmp_path: Path
) -> None:
    """The network's weights are rounded to 8 bits; their average would differ by some 1e-3."""
    found = two_processes.run(train_averaged, LAYOUTS[name], str(tmp_path), overlap, precision)
    for each in found:
        assert each.error < 1e-6
        assert each.applied < (1e-6 if precision == "32" else 1e-2)
        assert each.is_undone
    if name == "dp":  # the network is whole on both
        assert sum(each.num_averaged for each in found) == found[0].num_trained
        assert max(each.num_averaged for each in found) < 0.6 * found[0].num_trained
