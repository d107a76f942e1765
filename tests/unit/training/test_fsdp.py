"""What does not go with FSDP is refused before training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from megatron.core.distributed import DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.training.fsdp.config import check_fsdp_precision, fsdp_config
from nemo_cosmos.training.precision import megatron_precision
from nemo_cosmos.training.strategy import WorldStrategy


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fsdp": "pytorch"}, r"no trainer\.strategy\.fsdp=pytorch\. Valid is 'megatron'"),
        ({"pipeline_model_parallel_size": 2}, r"does not go with pipeline_model_parallel_size=2"),
        ({"ddp": "pytorch"}, r"trainer\.strategy\.ddp='pytorch' does not go with"),
    ],
)
def test_wrong_combinations(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WorldStrategy(**{"fsdp": "megatron"} | given)


def test_precision_and_optimizer() -> None:
    def check(precision: str, **config: Any) -> None:
        optimizer = SimpleNamespace(config=OptimizerConfig(**config))
        check_fsdp_precision(megatron_precision(precision), optimizer)

    check("bf16-mixed", use_distributed_optimizer=True)
    with pytest.raises(ConfigError, match=r"does not go with trainer\.precision=16-mixed"):
        check("16-mixed", use_distributed_optimizer=True)
    with pytest.raises(ConfigError, match=r"Set optim\.config\.use_distributed_optimizer=true"):
        check("32", use_distributed_optimizer=False)


def test_settings_of_the_user_are_kept() -> None:
    config = fsdp_config(DistributedDataParallelConfig(check_for_nan_in_grad=True))
    assert config.check_for_nan_in_grad
    assert config.data_parallel_sharding_strategy == "optim_grads_params"
