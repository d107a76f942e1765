"""The optimiser of sharded weights: its state in a checkpoint, and its float32 weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from megatron.core.distributed.fsdp.src.megatron_fsdp.param_and_grad_buffer import (
    to_local_if_dtensor,
)
from megatron.core.optimizer.optimizer import param_group_identifier_keys
from torch import Tensor

from nemo_cosmos.training.checkpointing.sharded_state import MODEL_PREFIX
from nemo_cosmos.training.fsdp.network import Rows, ShardedNetwork

if TYPE_CHECKING:
    from megatron.core.optimizer import MegatronOptimizer

MOMENTS = ("exp_avg", "exp_avg_sq")
OPTIMIZER_PREFIX = "optimizer.state"
"""As Megatron's distributed optimiser names its tensors in the fully reshardable form."""


def optimizer_state(
    optimizer: MegatronOptimizer, networks: Sequence[ShardedNetwork]
) -> dict[str, object]:
    """The optimiser's state in Megatron's fully reshardable form.

    Args:
        optimizer: Megatron's distributed optimiser.
        networks: the networks that it trains.
    """
    optimizer.init_state_fn(optimizer.optimizer, optimizer.config)
    state: dict[str, Any] = optimizer.state_dict()
    state["param_state"] = {
        number: {
            name: rows.sharded(tensor, f"{OPTIMIZER_PREFIX}.{name}.{MODEL_PREFIX}")
            for name, tensor in _stepped(optimizer, rows).items()
        }
        for number, rows in enumerate(_trained(networks))
    }
    state["param_state_sharding_type"] = "fully_reshardable"
    return state


@torch.no_grad()
def load_optimizer_state(
    optimizer: MegatronOptimizer, networks: Sequence[ShardedNetwork], state: dict[str, Any]
) -> None:
    """Restore what :func:`optimizer_state` described, filled from a checkpoint."""
    saved = {_kind(group): group for group in state["optimizer"]["param_groups"]}
    for group in optimizer.optimizer.param_groups:
        settings = saved[_kind(group)]
        group.update({name: value for name, value in settings.items() if name != "params"})
    for number, rows in enumerate(_trained(networks)):
        for name, tensor in _stepped(optimizer, rows).items():
            tensor.copy_(state["param_state"][number][name].view_as(tensor))
    for network in networks:
        network.param_and_grad_buffer.copy_main_weights_to_model_weights()
        network.gather_again()


def take_over_weights(networks: Sequence[ShardedNetwork]) -> None:
    """Copy rows that were written in the forward pass's precision to the optimiser's weights."""
    for network in networks:
        network.param_and_grad_buffer.copy_model_weights_to_main_weights()
        network.gather_again()


def _trained(networks: Sequence[ShardedNetwork]) -> list[Rows]:
    return [rows for network in networks for rows in network.rows if rows.main.requires_grad]


def _stepped(optimizer: MegatronOptimizer, rows: Rows) -> dict[str, Tensor]:
    """This rank's rows of an optimiser weight and of its moments."""
    state = optimizer.optimizer.state[rows.main]
    tensors = {"param": rows.main, **{name: state[name] for name in MOMENTS}}
    return {name: to_local_if_dtensor(tensor) for name, tensor in tensors.items()}


def _kind(group: dict[str, object]) -> tuple[object, ...]:
    """The key of an optimiser's group of parameters; schedules rename its fields ``pre_*``."""
    keys = param_group_identifier_keys
    return tuple(group[key] if key in group else group[f"pre_{key}"] for key in keys)
