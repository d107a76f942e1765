"""What the distributed optimiser saves under a parameter's name is that parameter's state."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.platform.patches.nemo import install_nemo_patches

SIZES = (3, 130, 64, 7)


@pytest.mark.parametrize("bucket_size", [None, 1, 100], ids=["one", "each", "some"])
def test_saved_state_is_each_parameters_own(bucket_size: int | None) -> None:
    install_nemo_patches()
    ensure_model_parallel()
    optimizer, model = trained(bucket_size)
    metadata = {"distrib_optim_sharding_type": "fully_reshardable"}
    saved = optimizer.sharded_state_dict(model.sharded_state_dict(), metadata=metadata)
    state = {
        box.key: box.data  # of vectors, a run is one box
        for entries in saved["param_state"].values()
        for boxes in entries.values()
        for box in boxes.values()
    }
    for number, size in enumerate(SIZES):
        value = number + 1.0
        name = f"module.weight_{number}"
        weight = state[f"optimizer.state.param.{name}"]
        assert weight.tolist() == pytest.approx([value] * size)
        moment = state[f"optimizer.state.exp_avg.{name}"]
        assert moment.tolist() == pytest.approx([value] * size)


def trained(bucket_size: int | None) -> tuple[Any, Any]:
    """An optimiser whose states are known: weight and first moment n of parameter n."""
    from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
    from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
    from megatron.core.transformer import MegatronModule, TransformerConfig

    class Network(MegatronModule):
        def __init__(self) -> None:
            config = TransformerConfig(num_layers=1, hidden_size=8, num_attention_heads=1)
            super().__init__(config=config)
            for number, size in enumerate(SIZES):
                weight = torch.full((size,), number + 1.0)
                self.register_parameter(f"weight_{number}", torch.nn.Parameter(weight))

    network = Network()
    config = DistributedDataParallelConfig(
        use_distributed_optimizer=True, overlap_grad_reduce=True, bucket_size=bucket_size
    )
    model = DistributedDataParallel(network.config, config, network)
    optimizer = get_megatron_optimizer(
        OptimizerConfig(lr=0.0, clip_grad=0.0, use_distributed_optimizer=True), [model]
    )
    for number, weight in enumerate(network.parameters()):
        weight.main_grad.fill_((number + 1.0) * 10)  # a step keeps a tenth of it
    optimizer.step()
    return optimizer, model
