"""How copies of a model exchange gradients and weights, by layout."""

from __future__ import annotations

import math

import pytest
from megatron.core.distributed import DistributedDataParallelConfig

from nemo_cosmos.training import data_parallel
from nemo_cosmos.training.data_parallel import stop_at_divergence, with_overlap
from nemo_cosmos.training.resilience.skipped import BadStep

PLAIN = DistributedDataParallelConfig(check_for_nan_in_grad=True, use_distributed_optimizer=True)


def test_nothing_changes_without_a_gpu() -> None:
    assert with_overlap(PLAIN, num_sharing=8, sums_losses=False) == PLAIN
    assert with_overlap(PLAIN, num_sharing=8, sums_losses=False, overlap=False) == PLAIN


@pytest.mark.parametrize(
    ("num_sharing", "sums_losses", "overlaps", "averages"),
    [(8, False, True, True), (8, True, True, False), (1, False, False, False)],
)
def test_on_gpus_ranks_that_share_overlap(
    num_sharing: int,
    sums_losses: bool,
    overlaps: bool,
    averages: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(data_parallel, "by_device", lambda cpu, cuda: cuda)
    config = with_overlap(PLAIN, num_sharing=num_sharing, sums_losses=sums_losses)
    assert config.overlap_grad_reduce == config.overlap_param_gather == overlaps
    assert config.average_in_collective == averages
    assert not config.check_for_nan_in_grad, "it would wait for every bucket"
    assert PLAIN.check_for_nan_in_grad, "the user's settings are not changed in place"


def test_weights_are_gathered_by_a_distributed_optimiser_only() -> None:
    plain = DistributedDataParallelConfig(use_distributed_optimizer=False)
    config = with_overlap(plain, num_sharing=2, sums_losses=False, overlap=True)
    assert config.overlap_grad_reduce and not config.overlap_param_gather
    assert not config.average_in_collective, "gloo has no mean"


@pytest.mark.parametrize(("norm", "kind"), [(math.nan, "NaN"), (math.inf, "Inf")])
def test_gradients_that_are_not_finite_end_the_run(norm: float, kind: str) -> None:
    with pytest.raises(BadStep, match=f"gradients are {kind}"):
        stop_at_divergence(lambda: (True, norm, None))()


@pytest.mark.parametrize("norm", [0.5, None])
def test_other_steps_are_as_they_were(norm: float | None) -> None:
    assert stop_at_divergence(lambda: (True, norm, 3))() == (True, norm, 3)
