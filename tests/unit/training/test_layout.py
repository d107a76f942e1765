"""A layout that does not fit its processes is refused before anything starts."""

from __future__ import annotations

import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.training.checks import check_processes
from nemo_cosmos.training.strategy import WorldStrategy


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


def test_fsdp_needs_processes_to_share_with() -> None:
    check_processes(WorldStrategy(fsdp="megatron", context_parallel_size=2), 2)
    with pytest.raises(ConfigError, match=r"nothing to share out.*2 processes.*2 copies"):
        strategy = WorldStrategy(fsdp="megatron", num_distributed_optimizer_instances=2)
        check_processes(strategy, 2)
    with pytest.raises(ConfigError, match=r"nothing to share out.*2 of them tensor-parallel"):
        check_processes(WorldStrategy(fsdp="megatron", tensor_model_parallel_size=2), 2)


def test_the_launcher_must_have_started_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_processes(WorldStrategy(), 2)
    with pytest.raises(ConfigError, match=r"launcher started 2 processes.*is 4"):
        check_processes(WorldStrategy(), 4)
