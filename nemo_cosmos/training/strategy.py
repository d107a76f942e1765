"""How a model is spread over devices: NeMo's MegatronStrategy with the settings a long run needs.

Differences from the class it builds on:

- random numbers are seeded from an argument on every device (NeMo seeds Megatron-Core only where it
  counts a GPU, and always with 1234);
- optimiser state is written in the fully reshardable form, so that a checkpoint of one layout loads
  into any other;
- a synchronous save hands its results over in this process. Megatron-Core starts a manager process
  for that, which costs seconds at the first save and is left behind when training is killed;
- on GPUs, gradients and weights are exchanged beside the computation;
- gradients that are not finite end the run;
- a checkpoint is verified and compared with the model before Megatron-Core loads it, and the run
  says what that changed;
- ``fsdp="megatron"`` makes a :class:`nemo_cosmos.training.fsdp.strategy.FsdpStrategy`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as pl
import numpy as np
import torch
from megatron.core import parallel_state, tensor_parallel
from nemo import lightning as nl
from nemo.core.optim.mcore_optim import McoreDistributedOptimizer

from nemo_cosmos.checkpoint.loading import Before
from nemo_cosmos.checkpoint.world.config import check_holds_all
from nemo_cosmos.models.common.megatron.module import bare_networks
from nemo_cosmos.models.common.megatron.parts import TensorPart, parts_of
from nemo_cosmos.platform.distributed import fresh_store
from nemo_cosmos.platform.patches.checkpoints import use_results_queue
from nemo_cosmos.training.adapters.steps import Kept, check_same_base, kept_by, without_base
from nemo_cosmos.training.checkpointing.sharded_state import check_loadable
from nemo_cosmos.training.checkpointing.whole import checkpoint_folder, whole_checkpoint
from nemo_cosmos.training.data_parallel import DEFAULT, stop_at_divergence, with_overlap
from nemo_cosmos.training.precision import check_same_fp8

DEFAULT_SEED = 1234


class WorldStrategy(nl.MegatronStrategy):
    """MegatronStrategy for world models.

    Args:
        seed: seeds Python, NumPy, torch and Megatron's per-rank generators. Data-parallel ranks
            share the weights' initial values but draw different noise.
        ckpt_async_save: write checkpoints in a background process while training continues.
        ckpt_optim_fully_reshardable: optimiser state that loads into any parallel layout.
        fsdp: ``"megatron"`` shards weights, gradients and optimiser state over data-parallel ranks;
            None shards the optimiser's state alone.
        overlap: exchange gradients and weights beside the computation; by default on GPUs. A
            ``DistributedDataParallelConfig`` as ``ddp`` says for itself.
        **kwargs: the arguments of ``nemo.lightning.MegatronStrategy``, such as
            ``tensor_model_parallel_size`` and ``context_parallel_size``.
    """

    def __new__(cls, *args: object, fsdp: str | None = None, **kwargs: object) -> Self:
        """Make the strategy that ``fsdp`` names, so that recipes and overrides name one class."""
        if cls is not WorldStrategy or fsdp is None:
            made: Self = super().__new__(cls, *args, **kwargs)
            return made
        from nemo_cosmos.training.fsdp.strategy import FsdpStrategy  # builds on this class

        sharded: Self = super().__new__(FsdpStrategy, *args, **kwargs)
        return sharded

    def __init__(
        self,
        *,
        seed: int = DEFAULT_SEED,
        ckpt_async_save: bool = False,
        ckpt_optim_fully_reshardable: bool = True,
        fsdp: str | None = None,
        overlap: bool | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(
            ckpt_async_save=ckpt_async_save,
            ckpt_optim_fully_reshardable=ckpt_optim_fully_reshardable,
            fsdp=fsdp,
            **kwargs,
        )
        self.seed = seed
        self.fsdp = fsdp
        self.overlap = overlap
        self._kept: Kept | None = None
        self._before: Before | None = None
        self._checkpoint = ""
        self._is_restored = False

    def connect(self, model: pl.LightningModule) -> None:
        """Take the model, whose precision the trainer sets.

        Raises:
            ConfigError: the model asks for an FP8 that the trainer would overwrite silently.
        """
        check_same_fp8(getattr(model, "config", None), self._precision_plugin)
        super().connect(model)

    def setup_environment(self) -> None:
        """Join the process group, then seed: Megatron's generators depend on the rank."""
        if not torch.distributed.is_initialized():
            self.store = fresh_store()
        super().setup_environment()
        self.store = None  # a checkpoint's context cannot hold one
        seed_everything(self.seed)

    def setup(self, trainer: pl.Trainer) -> None:
        """Build the model and its optimiser; choose how save results travel."""
        # A background save runs in a child process and needs Megatron's own queue.
        use_results_queue(in_process=not self.async_save)
        if self._ddp == DEFAULT:
            self.ddp_config: Any = with_overlap(
                self.ddp_config,
                num_sharing=trainer.world_size
                // self.tensor_model_parallel_size
                // self.pipeline_model_parallel_size,
                sums_losses=bool(trainer.lightning_module.config.calculate_per_token_loss),
                overlap=self.overlap,
            )
            if trainer.lightning_module.optim.config.clip_grad:
                # Megatron-Core would raise on the rank that has the NaN alone, and leave the others
                # waiting; the norm that gradients are clipped by is the same on all ranks.
                self.ddp_config = replace(self.ddp_config, check_for_nan_in_grad=False)
        super().setup(trainer)
        for optimizer in self.optimizers:
            if isinstance(optimizer, McoreDistributedOptimizer):
                core = optimizer.mcore_optimizer
                core.step = stop_at_divergence(core.step)
        self._keep_trained_alone(kept_by(trainer.lightning_module))

    def _keep_trained_alone(self, kept: Kept | None) -> None:
        """Save and load what a run with adapters trains; the base is on disk."""
        self._kept = kept
        if kept is None:
            return
        whole = self.megatron_parallel.sharded_state_dict

        def trained(*args: object, **kwargs: object) -> dict[str, Any]:
            return without_base(whole(*args, **kwargs), kept)

        self.megatron_parallel.sharded_state_dict = trained

    def trained_weights(self) -> list[torch.Tensor]:
        """What this rank holds of the weights that are trained."""
        return [p for p in self.megatron_parallel.parameters() if p.requires_grad]

    def sync_weights(self) -> None:
        """Finish the exchange of weights that a step has begun: with overlap, the next step does.

        Every rank calls it before it reads or writes weights between two steps.
        """
        if self.overlaps_weights:
            self.megatron_parallel.force_param_sync()

    @property
    def overlaps_weights(self) -> bool:
        """Whether updated weights are exchanged during the next forward pass."""
        return bool(getattr(self.ddp_config, "overlap_param_gather", False))

    def weights_written(self, *, step_from_them: bool, shares_alone: bool = False) -> None:
        """Bring what depends on the weights up to date after they were written.

        Args:
            step_from_them: copy them to the optimiser's float32 weights, too.
            shares_alone: whether each data-parallel rank wrote its share of a distributed
                optimiser's weights alone, so that the others' are gathered.
        """
        if shares_alone:
            self.megatron_parallel.force_param_sync()
        if step_from_them:
            for optimizer in self.optimizers:
                optimizer.reload_model_params()

    def load_checkpoint(
        self, checkpoint_path: str | Path, selective_restore: bool = False
    ) -> dict[str, object]:
        """Load a checkpoint that is whole and of this model.

        In place of a damaged one, the one before it is loaded.

        Raises:
            CheckpointError: there is none, or it is of another model; nothing has been loaded.
        """
        if self.save_ckpt_format == "torch_dist":
            checkpoint_path = whole_checkpoint(self.trainer, Path(checkpoint_path))
            folder = checkpoint_folder(checkpoint_path)
            if self._kept is None:
                check_holds_all(folder)
            else:
                check_same_base(folder, self.trainer)
            check_loadable(checkpoint_path, self.expected_state(), self._kept)
        # Megatron-Core may read into the network's own tensors.
        self._before = Before(self._parts())
        self._checkpoint = str(checkpoint_path)
        loaded: dict[str, object] = super().load_checkpoint(checkpoint_path, selective_restore)
        return loaded

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Restore the weights from a loaded checkpoint, and say what that changed.

        Raises:
            CheckpointError: nothing; the run would go on from its initial weights.
        """
        self.put_weights(checkpoint, strict and self._kept is None)
        before, self._before = self._before, None
        if before is not None:
            # A run that returns to its newest checkpoint may hold those very weights.
            before.loaded(self._checkpoint, may_be_same=self._is_restored).say()
            self._is_restored = True

    def put_weights(self, checkpoint: Mapping[str, Any], strict: bool) -> None:
        """Put a loaded checkpoint's weights in place."""
        super().load_model_state_dict(checkpoint, strict)

    def _parts(self) -> list[TensorPart]:
        parts = (part for network in bare_networks(self.trainer) for part in parts_of(network))
        return [part for part in parts if self._kept is None or self._kept(part.name)]

    def expected_state(self) -> dict[str, object]:
        """The weights that a checkpoint must hold."""
        state: dict[str, Any] = self.megatron_parallel.sharded_state_dict()
        return state


def seed_everything(seed: int) -> None:
    """Seed every generator that training draws from.

    The weights' initial values come from the same stream on all data-parallel ranks; after that,
    ``training.checkpointing.random_state`` gives each rank its own stream for noise.

    Args:
        seed: any non-negative integer.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    # NeMo's rule: every pipeline stage its own seed; Megatron-Core adds the tensor-parallel rank.
    stage = parallel_state.get_pipeline_model_parallel_rank()
    tensor_parallel.model_parallel_cuda_manual_seed(seed + 100 * stage)
