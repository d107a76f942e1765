"""The Lightning module of every model family: NeMo's hooks that do not depend on what is trained.

NeMo's MegatronStrategy drives a model through ``data_step``, ``forward_step`` and a loss reduction,
and builds it by ``configure_model`` once the process groups exist. A family subclasses
:class:`MegatronLightningModule` and writes what is its own: the network, the batch and the loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import lightning.pytorch as pl
import torch
from megatron.core import parallel_state
from megatron.core.transformer.transformer_config import TransformerConfig
from nemo.collections.llm import fn
from nemo.lightning import io
from nemo.lightning.megatron_parallel import MegatronLossReduction
from nemo.lightning.pytorch.optim import OptimizerModule
from torch import Tensor, nn

from nemo_cosmos.platform import default_device

Batch: TypeAlias = Any
"""A typed dictionary of :mod:`nemo_cosmos.batch`; each model says which."""

DEFAULT_SEED = 1234
VALIDATION_STEP = -1
"""Validation meets the same randomness every time, so that its losses can be compared."""


def bare_network(module: nn.Module) -> nn.Module:
    """Return the network without the wrappers of Lightning, precision and data parallelism.

    All of them keep what they wrap under the name ``module``.
    """
    while isinstance(inner := getattr(module, "module", None), nn.Module):
        module = inner
    return module


def bare_networks(trainer: pl.Trainer) -> list[nn.Module]:
    """Return this rank's networks: one, or one for each of its virtual pipeline stages."""
    return [bare_network(chunk) for chunk in trainer.strategy.megatron_parallel]


def to_device(value: object) -> object:
    """Return a tensor, or a list of tensors, on the network's device; anything else unchanged."""
    if isinstance(value, list):
        return [to_device(item) for item in value]
    if isinstance(value, Tensor):
        return value.to(default_device(), non_blocking=True)
    return value


class Peft(Protocol):
    """What trains a few added weights of a network instead of all, such as LoRA."""

    def apply(self, network: nn.Module) -> None:
        """Add them to this rank's part of a network, and freeze the rest; in place."""
        ...

    def count_added(self, network: nn.Module) -> int:
        """The parameters that :meth:`apply` would add."""
        ...


class MegatronLightningModule(pl.LightningModule, io.IOMixin, io.ConnectorMixin, fn.FNMixin):
    """A model that NeMo's MegatronStrategy trains.

    Args:
        config: Megatron's configuration, into which the strategy writes the layout.
        optim: the optimiser.

    Attributes:
        peft: what is trained instead of all weights; a run sets it before the network is built.
    """

    def __init__(self, config: TransformerConfig, optim: OptimizerModule) -> None:
        super().__init__()
        self.config = config
        self.module: nn.Module | None = None
        self.peft: Peft | None = None
        self.optim = optim
        self.optim.connect(self)
        self._loss_reduction = MeanLoss(config)
        self._numbered_step: int | None = None
        self._num_micro_batches = 0

    def build(self, vp_stage: int | None) -> nn.Module:
        """Build this rank's part of the network; every family has its own.

        Args:
            vp_stage: virtual pipeline stage; None without virtual stages.
        """
        raise NotImplementedError

    def forward_step(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, a scalar or one value a sample; every family has its own."""
        raise NotImplementedError

    def configure_model(self, vp_stage: int | None = None) -> None:
        """Build the network once; NeMo calls this inside the initialised process groups."""
        if vp_stage is None and self.config.virtual_pipeline_model_parallel_size is not None:
            vp_stage = 0
        if self.module is None:
            self.module = self.build(vp_stage)
            if self.peft is not None:
                self.peft.apply(self.module)

    def forward(self, *args: object, **kwargs: object) -> object:
        """Run the network."""
        assert self.module is not None, "configure_model comes first"
        return self.module(*args, **kwargs)

    def training_step(self, batch: Batch, batch_idx: int | None = None) -> Tensor:
        """Return the loss of a training batch."""
        return self.forward_step(batch)

    def validation_step(self, batch: Batch, batch_idx: int | None = None) -> Tensor:
        """Return the loss of a validation batch."""
        return self.forward_step(batch)

    @property
    def training_loss_reduction(self) -> MegatronLossReduction:
        """How the losses of micro-batches and data-parallel ranks become one."""
        return self._loss_reduction

    @property
    def validation_loss_reduction(self) -> MegatronLossReduction:
        """The same as in training."""
        return self._loss_reduction

    def network(self) -> Any:
        """Return the network without the wrappers of precision and data parallelism."""
        assert self.module is not None, "configure_model comes first"
        return bare_network(self.module)

    @property
    def vp_stage(self) -> int | None:
        """Virtual pipeline stage of this part of the network; NeMo's schedules ask for it."""
        stage: int | None = getattr(self.network(), "vp_stage", None)
        return stage

    def next_batch(self, batches: Iterator[Any]) -> Batch:
        """Take the next batch; validation loaders wrap it in a tuple with its number."""
        fetched = next(batches)
        return fetched[0] if isinstance(fetched, tuple) else fetched

    @property
    def run_seed(self) -> int:
        """Seed of the run's randomness."""
        return int(getattr(self.trainer.strategy, "seed", DEFAULT_SEED))

    @property
    def step_number(self) -> int:
        """Number of the optimiser step; :data:`VALIDATION_STEP` in validation."""
        # Of virtual pipeline stages, Lightning puts the first alone into evaluation mode.
        trainer = self.trainer
        validates = trainer.validating or trainer.sanity_checking
        return VALIDATION_STEP if validates else int(trainer.global_step)

    def next_micro_batch(self) -> str:
        """Return a prefix that no other micro-batch of the step has.

        It names the data-parallel rank and the micro-batch's number on it.
        """
        if self._numbered_step != self.step_number:
            self._numbered_step, self._num_micro_batches = self.step_number, 0
        prefix = f"{parallel_state.get_data_parallel_rank()}.{self._num_micro_batches}."
        self._num_micro_batches += 1
        return prefix

    def log(self, name: str, value: Any, prog_bar: bool = False, *args: Any, **kwargs: Any) -> None:
        """Log a value without a wait for the device.

        Lightning reads what is meant for a progress bar from the device at every step, shown or
        not, and NeMo means the loss for one; ours reads what it prints. A plain number would be
        copied to the device, which waits, too; here it is filled in there.
        """
        if isinstance(value, int | float):
            value = torch.full((), float(value), device=self.device)
        super().log(name, value, False, *args, **kwargs)

    def on_validation_epoch_start(self) -> None:
        """Number the validation batches from zero, so that each meets the same noise again."""
        self._numbered_step = None


class MeanLoss(MegatronLossReduction):
    """Means over samples, micro-batches and data-parallel ranks.

    The losses of context-parallel ranks are parts of a sample's loss, and are added.

    Micro-batches of one size are averaged one after the other. Packs hold different numbers of
    samples; with ``config.calculate_per_token_loss`` Megatron sums their losses and gradients and
    divides by the number of samples in the whole step.

    Args:
        config: Megatron's configuration of the model.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, batch: Batch, forward_out: Tensor) -> tuple[object, ...]:
        """Return the micro-batch's loss and what :meth:`reduce` needs of it."""
        total, count = forward_out.sum(), forward_out.numel()
        # Filled where they are: a number that is copied to a GPU waits for all work queued there.
        count_here = total.new_full((), count)
        parts = {"loss_and_count": torch.stack([total.detach(), count_here])}
        if self.config.calculate_per_token_loss:
            return total, total.new_full((), count, dtype=torch.int), parts
        return forward_out.mean(), parts

    def reduce(self, losses_reduced_per_micro_batch: Sequence[dict[str, Tensor]]) -> Tensor:
        """Return the mean loss over all samples of all data-parallel ranks."""
        if not losses_reduced_per_micro_batch:
            return torch.zeros((), device=default_device())
        parts = [part["loss_and_count"] for part in losses_reduced_per_micro_batch]
        loss_and_count = torch.stack(parts).sum(dim=0)
        group = parallel_state.get_data_parallel_group(with_context_parallel=True)
        torch.distributed.all_reduce(loss_and_count, group=group)
        num_parts = parallel_state.get_context_parallel_world_size()
        return loss_and_count[0] / (loss_and_count[1] / num_parts)
