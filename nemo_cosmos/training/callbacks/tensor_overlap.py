"""Buffers of Transformer Engine, in which tensor-parallel ranks exchange beside products."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from megatron.core import parallel_state
from megatron.core.num_microbatches_calculator import get_micro_batch_size
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.platform import require


class TensorOverlap(pl.Callback, IOMixin):
    """Allocate the buffers of a model with ``config.tp_comm_overlap``; for others, do nothing.

    The model says how many tokens of a sample its ranks share, as ``buffer_tokens``.

    Hooks:

    - ``on_fit_start``: allocate; the process groups are there, and no layer has run.
    - ``teardown``: free them, so that another run can follow in this process.
    """

    def __init__(self) -> None:
        self._allocated = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Allocate the buffers.

        Raises:
            MissingDependencyError: Transformer Engine is not installed.
        """
        tokens: int | None = getattr(pl_module, "buffer_tokens", None)
        if tokens is None:
            return
        config = pl_module.config
        _engine().initialize_ub(
            shape=[tokens * get_micro_batch_size(), config.hidden_size],
            tp_size=parallel_state.get_tensor_model_parallel_world_size(),
            use_fp8=config.fp8 is not None,
            bootstrap_backend="nccl",  # its default, MPI, needs a launcher of its own
        )
        self._allocated = True

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Free the buffers."""
        if self._allocated:
            _engine().destroy_ub()
        self._allocated = False


def _engine() -> Any:
    require("transformer_engine", purpose="model.config.tp_comm_overlap")
    from transformer_engine.pytorch.module import base

    return base
