"""How a model is spread over devices: NeMo's MegatronStrategy with the settings a long run needs.

Differences from the class it builds on:

- random numbers are seeded from an argument on every device (NeMo seeds Megatron-Core only where it
  counts a GPU, and always with 1234);
- optimiser state is written in the fully reshardable form, so that a checkpoint of one layout loads
  into any other;
- a synchronous save hands its results over in this process. Megatron-Core starts a manager process
  for that, which costs seconds at the first save and is left behind when training is killed;
- a checkpoint is verified and compared with the model before Megatron-Core loads it;
- what FSDP shares out is written and read in the form of all other layouts (``training.fsdp``).
"""

from __future__ import annotations

import queue
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from megatron.core import parallel_state, tensor_parallel
from megatron.core.dist_checkpointing.strategies import filesystem_async
from nemo import lightning as nl
from nemo.lightning import megatron_parallel

from nemo_cosmos.training.fsdp import (
    ShardedNetwork,
    check_fsdp,
    check_fsdp_precision,
    fsdp_config,
    load_optimizer_state,
    optimizer_state,
    take_over_weights,
)
from nemo_cosmos.training.precision import check_same_fp8
from nemo_cosmos.training.sharded_state import check_loadable

DEFAULT_SEED = 1234


class WorldStrategy(nl.MegatronStrategy):
    """MegatronStrategy for world models.

    Args:
        seed: seeds Python, NumPy, torch and Megatron's per-rank generators. Data-parallel ranks
            share weights' initial values but draw different noise.
        ckpt_async_save: write checkpoints in a background process while training goes on.
        ckpt_optim_fully_reshardable: optimiser state that loads into any parallel layout.
        fsdp: ``"megatron"`` shares out weights, gradients and optimiser state over data-parallel
            processes; ``num_distributed_optimizer_instances`` groups of them hold a whole model
            each (hybrid sharding). None shares out the optimiser's state alone.
        **kwargs: everything else that ``nemo.lightning.MegatronStrategy`` takes, such as
            ``tensor_model_parallel_size`` and ``context_parallel_size``.
    """

    def __init__(
        self,
        *,
        seed: int = DEFAULT_SEED,
        ckpt_async_save: bool = False,
        ckpt_optim_fully_reshardable: bool = True,
        fsdp: str | None = None,
        **kwargs: Any,
    ) -> None:
        if fsdp is not None:
            check_fsdp(fsdp, kwargs.get("pipeline_model_parallel_size", 1))
            kwargs["ddp"] = fsdp_config(kwargs.get("ddp"))
        super().__init__(
            ckpt_async_save=ckpt_async_save,
            ckpt_optim_fully_reshardable=ckpt_optim_fully_reshardable,
            fsdp=fsdp,
            **kwargs,
        )
        self.seed = seed
        self.fsdp = fsdp

    def connect(self, model: pl.LightningModule) -> None:
        """Take the model, whose precision the trainer sets.

        Raises:
            ConfigError: the model asks for an FP8 that the trainer would overwrite in silence, or
                precision or optimiser do not go with FSDP.
        """
        check_same_fp8(getattr(model, "config", None), self._precision_plugin)
        if self.fsdp is not None:
            check_fsdp_precision(self._precision_plugin, getattr(model, "optim", None))
        super().connect(model)

    def setup_environment(self) -> None:
        """Join the process group, then seed: Megatron's generators depend on the rank."""
        super().setup_environment()
        seed_everything(self.seed)

    def setup(self, trainer: pl.Trainer) -> None:
        """Build the model and its optimiser; choose how save results travel."""
        # A background save runs in a child process and needs Megatron's own queue.
        filesystem_async._results_queue = None if self.async_save else queue.Queue()
        super().setup(trainer)
        for network in self.sharded_networks:
            network.use_whole_weights()

    def init_model_parallel(self) -> None:
        """Wrap the network for data parallelism."""
        if self.fsdp is not None:
            # NeMo looks the class up here, and then puts Megatron-FSDP's own form of a checkpoint
            # in the place of the method.
            megatron_parallel.FullyShardedDataParallel = ShardedNetwork
        super().init_model_parallel()
        for network in self.sharded_networks:
            network.__dict__.pop("sharded_state_dict", None)

    @property
    def sharded_networks(self) -> list[ShardedNetwork]:
        """The networks whose weights FSDP shares out; none without it."""
        wrapped = [getattr(chunk, "module", None) for chunk in self.megatron_parallel]
        return [network for network in wrapped if isinstance(network, ShardedNetwork)]

    def trained_weights(self) -> list[torch.Tensor]:
        """What this process holds of the weights that are trained."""
        if self.fsdp is None:
            return [p for p in self.megatron_parallel.parameters() if p.requires_grad]
        return [
            rows.shard.tensor
            for network in self.sharded_networks
            for rows in network.rows
            if rows.main.requires_grad
        ]

    def weights_written(self, *, step_from_them: bool) -> None:
        """Tell what depends on the weights that they were written.

        Args:
            step_from_them: copy them to the optimiser's float32 copies, too.
        """
        if self.fsdp is not None and step_from_them:
            take_over_weights(self.sharded_networks)
        elif self.fsdp is not None:
            for network in self.sharded_networks:
                network.gather_anew()
        elif step_from_them:
            for optimizer in self.optimizers:
                optimizer.reload_model_params()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """What Lightning puts into a checkpoint; NeMo replaces it, so FSDP gathers nothing."""
        if self.fsdp is not None:
            return {}
        state: dict[str, Any] = super().lightning_module_state_dict()
        return state

    @property
    def sharded_state_dict_metadata(self) -> dict[str, Any]:
        """How a checkpoint is laid out: with FSDP as without."""
        metadata: dict[str, Any] = super().sharded_state_dict_metadata
        if self.fsdp is not None:
            metadata["distrib_optim_sharding_type"] = "fully_reshardable"
            metadata["distrib_optim_fully_reshardable_mem_efficient"] = False
        return metadata

    def optimizer_sharded_state_dict(
        self, is_loading: bool = False, metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """What a checkpoint holds of the optimiser."""
        if self.fsdp is None:
            state: dict[str, Any] = super().optimizer_sharded_state_dict(is_loading, metadata)
            return state
        return optimizer_state(self._mcore_optimizer, self.sharded_networks)

    def load_optimizer_state_dict(
        self, checkpoint: Mapping[str, Any], selective_restore: bool = False
    ) -> None:
        """Take the optimiser's state over from a loaded checkpoint."""
        if self.fsdp is None:
            super().load_optimizer_state_dict(checkpoint, selective_restore)
        elif self.should_restore_optimizer_states(selective_restore=selective_restore):
            (state,) = checkpoint["optimizer"]
            load_optimizer_state(self._mcore_optimizer, self.sharded_networks, state)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take the weights over from a loaded checkpoint."""
        if self.fsdp is None:
            super().load_model_state_dict(checkpoint, strict)
            return
        for network in self.sharded_networks:
            network.load_rows(checkpoint["state_dict"])
        # The optimiser's weights were read in place: they are not to be made of rounded ones.
        self.weights_written(step_from_them="optimizer" not in checkpoint)

    @property
    def _mcore_optimizer(self) -> Any:
        (optimizer,) = self.optimizers
        return optimizer.mcore_optimizer

    def load_checkpoint(
        self, checkpoint_path: str | Path, selective_restore: bool = False
    ) -> dict[str, Any]:
        """Load a checkpoint that is whole and of this model.

        Raises:
            CheckpointError: it is not; nothing has been loaded.
        """
        if self.save_ckpt_format == "torch_dist":
            check_loadable(checkpoint_path, self._expected_state())
        loaded: dict[str, Any] = super().load_checkpoint(checkpoint_path, selective_restore)
        return loaded

    def _expected_state(self) -> dict[str, Any]:
        """The weights that a checkpoint must hold. With FSDP, a process has rows of a part only."""
        if self.fsdp is None:
            state: dict[str, Any] = self.megatron_parallel.sharded_state_dict()
            return state
        (network,) = self.sharded_networks
        return dict(network.places())


def seed_everything(seed: int) -> None:
    """Seed every generator that training draws from.

    The weights' initial values come from the same stream on all data-parallel ranks; after that,
    ``training.random_state`` gives each rank its own stream for noise.

    Args:
        seed: any non-negative integer.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    # NeMo's rule: every pipeline stage its own seed; Megatron-Core adds the tensor-parallel rank.
    stage = parallel_state.get_pipeline_model_parallel_rank()
    tensor_parallel.model_parallel_cuda_manual_seed(seed + 100 * stage)
