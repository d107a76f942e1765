"""A whole network is gathered on the first rank in exchanges of all ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from nemo_cosmos.testing.processes import ProcessPool


def gather() -> tuple[dict[str, list[float]], list[str]]:
    """The whole tensors by name, and what was sent between two ranks alone."""
    from nemo_cosmos.models.common.megatron.parts import TensorPart, whole_state
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel(tp=2)
    rank = dist.get_rank()

    class Half(nn.Module):
        def held_parts(self) -> list[TensorPart]:
            rows = slice(2 * rank, 2 * rank + 2)
            split = TensorPart("split", torch.full((2,), float(rank)), (4,), (rows,), is_main=True)
            late = TensorPart("late", torch.tensor([3, 4]), (2,), (slice(0, 2),), is_main=rank == 1)
            return [split, late]

    pairs: list[str] = []
    kept = {name: getattr(dist, name) for name in ("send", "recv")}
    for name, real in kept.items():

        def noted(*args: Any, name: str = name, real: Any = real, **kwargs: Any) -> Any:
            pairs.append(name)
            return real(*args, **kwargs)

        setattr(dist, name, noted)
    try:
        whole = whole_state([Half()])
    finally:
        for name, real in kept.items():
            setattr(dist, name, real)
    return {name: tensor.tolist() for name, tensor in whole.items()}, pairs


def test_nothing_is_sent_between_two_ranks_alone(two_processes: ProcessPool) -> None:
    """NCCL makes a communicator of its own for each pair that sends to the other."""
    (first, sent_by_first), (second, sent_by_second) = two_processes.run(gather)
    assert first == {"split": [0, 0, 1, 1], "late": [3, 4]} and second == {}
    assert sent_by_first == sent_by_second == []
