"""The strategy of ``trainer.strategy.fsdp=megatron``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch

from nemo_cosmos.platform.patches.nemo import wrapping_networks_in
from nemo_cosmos.training.adapters.steps import without_base
from nemo_cosmos.training.fsdp.config import check_fsdp, check_fsdp_precision, fsdp_config
from nemo_cosmos.training.fsdp.network import ShardedNetwork
from nemo_cosmos.training.fsdp.optimizer import (
    load_optimizer_state,
    optimizer_state,
    take_over_weights,
)
from nemo_cosmos.training.strategy import WorldStrategy

if TYPE_CHECKING:
    from megatron.core.optimizer import MegatronOptimizer


class FsdpStrategy(WorldStrategy):
    """Weights, gradients and optimiser state sharded over data-parallel ranks (Megatron-FSDP).

    ``WorldStrategy(fsdp="megatron")`` makes one. Checkpoints and exports are the same as without
    FSDP, so that a run can change to it, and back, at any resume.

    Args:
        fsdp: ``"megatron"``. ``num_distributed_optimizer_instances`` groups of ranks hold a whole
            model each (hybrid sharding).
        **kwargs: the arguments of :class:`WorldStrategy`.

    Raises:
        ConfigError: an unknown kind of FSDP, a pipeline, or settings of another data parallelism.
    """

    def __init__(self, *, fsdp: str | None = "megatron", **kwargs: Any) -> None:
        check_fsdp(fsdp, kwargs.get("pipeline_model_parallel_size", 1))
        kwargs["ddp"] = fsdp_config(kwargs.get("ddp"))
        super().__init__(fsdp=fsdp, **kwargs)

    def connect(self, model: pl.LightningModule) -> None:
        """Take the model.

        Raises:
            ConfigError: its precision or optimiser does not go with FSDP.
        """
        check_fsdp_precision(self._precision_plugin, getattr(model, "optim", None))
        super().connect(model)

    def setup(self, trainer: pl.Trainer) -> None:
        """Build the model and its optimiser."""
        super().setup(trainer)
        for network in self.sharded_networks:
            network.use_whole_weights()

    def init_model_parallel(self) -> None:
        """Wrap the network for sharded data parallelism."""
        with wrapping_networks_in(ShardedNetwork):
            super().init_model_parallel()
        for network in self.sharded_networks:
            # NeMo has put Megatron-FSDP's own form of a checkpoint over the class's method.
            network.__dict__.pop("sharded_state_dict", None)

    @property
    def sharded_networks(self) -> list[ShardedNetwork]:
        """The networks whose weights are sharded."""
        wrapped = [getattr(chunk, "module", None) for chunk in self.megatron_parallel]
        return [network for network in wrapped if isinstance(network, ShardedNetwork)]

    def trained_weights(self) -> list[torch.Tensor]:
        """The rows of trained weights that this rank keeps."""
        return [
            rows.part.tensor
            for network in self.sharded_networks
            for rows in network.rows
            if rows.main.requires_grad
        ]

    @property
    def overlaps_weights(self) -> bool:
        """Nothing is outstanding between two steps: a layer gathers its rows when it computes."""
        return False

    def weights_written(self, *, step_from_them: bool, shares_alone: bool = False) -> None:
        """Gather changed rows again before the next layer computes."""
        if step_from_them:
            take_over_weights(self.sharded_networks)
            return
        for network in self.sharded_networks:
            network.gather_again()

    def lightning_module_state_dict(self) -> dict[str, object]:
        """Return nothing: NeMo replaces what Lightning puts here, so nothing is gathered for it."""
        return {}

    @property
    def sharded_state_dict_metadata(self) -> dict[str, object]:
        """How a checkpoint is laid out: as without FSDP."""
        metadata: dict[str, object] = super().sharded_state_dict_metadata
        metadata["distrib_optim_sharding_type"] = "fully_reshardable"
        metadata["distrib_optim_fully_reshardable_mem_efficient"] = False
        return metadata

    def optimizer_sharded_state_dict(
        self, is_loading: bool = False, metadata: dict[str, object] | None = None
    ) -> dict[str, object]:
        """What a checkpoint holds of the optimiser."""
        return optimizer_state(self._mcore_optimizer, self.sharded_networks)

    def load_optimizer_state_dict(
        self, checkpoint: Mapping[str, Any], selective_restore: bool = False
    ) -> None:
        """Restore the optimiser's state from a loaded checkpoint."""
        if self.should_restore_optimizer_states(selective_restore=selective_restore):
            (state,) = checkpoint["optimizer"]
            load_optimizer_state(self._mcore_optimizer, self.sharded_networks, state)

    def put_weights(self, checkpoint: Mapping[str, Any], strict: bool) -> None:
        """Put a loaded checkpoint's weights in place."""
        for network in self.sharded_networks:
            network.load_rows(checkpoint["state_dict"])
        # A checkpoint's optimiser weights were read in place; the rounded ones must not replace
        # them.
        self.weights_written(step_from_them="optimizer" not in checkpoint)

    def expected_state(self) -> dict[str, object]:
        """The weights that a checkpoint must hold; this rank's rows are a part of each."""
        (network,) = self.sharded_networks
        return without_base(network.places(), self._kept or (lambda name: True))

    @property
    def _mcore_optimizer(self) -> MegatronOptimizer:
        (optimizer,) = self.optimizers
        return optimizer.mcore_optimizer
