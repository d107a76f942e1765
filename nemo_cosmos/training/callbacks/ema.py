"""An exponential moving average of the weights, which is what gets exported and sampled from.

The average is kept in float32, of what this rank's optimiser steps: under the distributed optimiser
each data-parallel rank averages its own share, and under FSDP its own rows. So it is an average of
the optimiser's weights, not of their rounding, and costs 4 bytes a parameter over all ranks. To
validate, sample or export, ranks gather it in the place of the weights. A distributed checkpoint
holds it under ``ema.*`` like the weights, so that it loads into any parallel layout.

Two kinds of decay:

- a constant ``decay`` with a warm-up, min(decay, (1 + n) / (10 + n)) after n updates, so that the
  first averages forget the initial weights;
- ``power_rate``: the power-function average of Karras et al. 2024 (EDM2, section 3.1), whose memory
  grows with training; Cosmos uses a rate of 0.10.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
import torch.distributed as dist
from megatron.core.dist_checkpointing.dict_utils import dict_list_map_outplace
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform.sharded_runs import sharded_run
from nemo_cosmos.training.checkpointing.sharded_state import load_sharded, saved_keys
from nemo_cosmos.training.weights.shares import Share, shares, spreading, temporary_weights

if TYPE_CHECKING:
    from nemo_cosmos.training.strategy import WorldStrategy

PREFIX = "ema"


class EMA(pl.Callback, IOMixin):
    """Average the weights after every optimiser step.

    Hooks:

    - ``on_train_start``: start from the model's weights, or read the average from the checkpoint.
    - ``on_train_batch_end``: one update.
    - ``on_validation_start``, ``on_validation_end``: validate with the average.
    - ``on_save_checkpoint``, ``on_load_checkpoint``, ``state_dict``, ``load_state_dict``: save and
      restore the average and the number of updates.

    Args:
        decay: weight of the past in one update, in [0, 1).
        power_rate: relative width of the power-function average, in (0, 0.28); replaces ``decay``.
        every_n_steps: update only after so many steps; the decay is not rescaled.
        validate_with_ema: swap the average in for validation.

    Raises:
        ConfigError: a decay or rate outside its range.
    """

    def __init__(
        self,
        decay: float = 0.999,
        power_rate: float | None = None,
        every_n_steps: int = 1,
        validate_with_ema: bool = True,
    ) -> None:
        if not 0.0 <= decay < 1.0:
            raise ConfigError(
                f"An EMA decay of {decay} is outside [0, 1). Common values are 0.99 to 0.9999."
            )
        self.decay = decay
        self.power_rate = power_rate
        self.power_exponent = None if power_rate is None else power_exponent(power_rate)
        self.every_n_steps = every_n_steps
        self.validate_with_ema = validate_with_ema
        self.num_updates = 0
        self._strategy: WorldStrategy | None = None
        self._shares: list[Share] = []
        self._averages: list[torch.Tensor] = []
        self._validation = ExitStack()
        self._resumed = False

    # --- Lightning hooks ----------------------------------------------------------------------
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take a float32 copy of this rank's shares, or the average that the checkpoint holds."""
        self._strategy = trainer.strategy
        self._shares = shares(trainer.strategy)
        self._averages = [share.stepped.float().clone() for share in self._shares]
        if self._resumed:
            self._restore(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Update the average; one batch of NeMo's trainer is one optimiser step."""
        if trainer.global_step % self.every_n_steps == 0:
            self.update()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place of the weights."""
        if self.validate_with_ema and self._averages:
            self._validation.enter_context(self.applied())

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the weights back."""
        self._validation.close()

    def state_dict(self) -> dict[str, object]:
        """Return the state that is the same on every rank."""
        return {"num_updates": self.num_updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of updates, which the decay depends on."""
        self.num_updates = int(state_dict["num_updates"])

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, object]
    ) -> None:
        """Add the average, split like the weights."""
        if self._averages:
            checkpoint[PREFIX] = self._sharded_state(trainer).state

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, object]
    ) -> None:
        """Remember that a checkpoint is being restored."""
        self._resumed = True

    # --- the average --------------------------------------------------------------------------
    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights by 1 - decay."""
        past = self.current_decay()
        self.num_updates += 1
        # What the optimiser has stepped is right at once, also while other ranks' shares are on
        # their way. It is a copy only where the optimiser keeps no float32 weights: one at a time.
        for average, share in zip(self._averages, self._shares, strict=True):
            average.lerp_(share.stepped.float(), 1.0 - past)

    def current_decay(self) -> float:
        """Weight of the past at the next update."""
        if self.power_exponent is not None:
            return float((1.0 - 1.0 / (self.num_updates + 1)) ** (self.power_exponent + 1.0))
        return min(self.decay, (1.0 + self.num_updates) / (10.0 + self.num_updates))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model computes with the average."""
        assert self._strategy is not None, "on_train_start comes first"
        with temporary_weights(self._strategy, self._shares, self._averages):
            yield

    def _sharded_state(self, trainer: pl.Trainer) -> _Sharded:
        """The model's sharded state with this rank's shares of the average in place of weights."""
        owners = spreading(trainer.strategy)
        owner_of = {w.data_ptr(): owners.get(id(w)) for w in trainer.strategy.trained_weights()}
        averages = {
            share.weight.data_ptr(): (share, average)
            for share, average in zip(self._shares, self._averages, strict=True)
        }
        gathered: list[tuple[torch.Tensor, torch.Tensor]] = []

        def with_average(entry: object) -> object:
            if not isinstance(entry, ShardedTensor | ShardedTensorFactory):
                return None
            place = entry.data.data_ptr()
            if place not in owner_of:  # a buffer, or a weight that is not trained
                return None
            owner, key = owner_of[place], f"{PREFIX}.{entry.key}"
            if owner is None:
                data = averages[place][1].view_as(entry.data)
            elif isinstance(entry, ShardedTensor):
                if place not in averages:  # all of it is other ranks'
                    return None
                share, average = averages[place]
                # The last number counts data-parallel ranks, each of which has its own share; only
                # further instances of the optimiser have the same.
                copies = (*entry.replica_id[:-1], owner.distributed_optimizer_instance_id)
                run = sharded_run(entry, average, share.elements.start, key, copies)
                return {str(number): box for number, box in enumerate(run)}
            else:  # saved in other parts than it is held in, which are cut from the whole
                whole = entry.data.new_zeros(entry.data.numel(), dtype=torch.float32)
                if place in averages:
                    share, average = averages[place]
                    whole[share.elements] = average
                    gathered.append((average, whole[share.elements]))
                dist.all_reduce(whole, group=owner.data_parallel_group)
                data = whole.view_as(entry.data)
            types = {"dtype": data.dtype} if isinstance(entry, ShardedTensor) else {}
            return replace(entry, key=key, data=data, **types)

        state = trainer.strategy.megatron_parallel.sharded_state_dict()
        return _Sharded(_without_none(dict_list_map_outplace(with_average, state)), gathered)

    @torch.no_grad()
    def _restore(self, trainer: pl.Trainer) -> None:
        """Read the averages; a checkpoint that was trained without EMA leaves the weights' copy."""
        if not any(key.startswith(f"{PREFIX}.") for key in saved_keys(trainer.ckpt_path)):
            return
        wanted = self._sharded_state(trainer)
        targets = {path: entry.data for path, entry in _leaves(wanted.state)}
        loaded = load_sharded(trainer.ckpt_path, {PREFIX: wanted.state})[PREFIX]
        for path, tensor in _leaves(loaded):
            targets[path].copy_(tensor)
        for average, part in wanted.gathered:
            average.copy_(part)


class _Sharded(NamedTuple):
    """The average as a checkpoint holds it.

    Attributes:
        state: entries whose data are views of the average, but for those that were gathered.
        gathered: averages, each with its place in a gathered one.
    """

    state: object
    gathered: list[tuple[torch.Tensor, torch.Tensor]]


@contextmanager
def averaged_weights(trainer: pl.Trainer) -> Iterator[None]:
    """Within the block the model computes with the average, where it has one, and is whole.

    Args:
        trainer: the trainer of a model that is set up.
    """
    ema = next((callback for callback in trainer.callbacks if isinstance(callback, EMA)), None)
    if ema is not None:
        with ema.applied():
            yield
        return
    # What a step has changed may still be on its way from other ranks.
    trainer.strategy.sync_weights()
    yield


def power_exponent(rate: float) -> float:
    """Exponent gamma of the power-function average with relative width ``rate``.

    Solves (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) = rate^2 (Karras et al. 2024, equation 123).

    Raises:
        ConfigError: no exponent gives that width.
    """
    inverse_square = rate**-2 if rate > 0 else np.inf
    if not 0.0 < rate < 0.28:
        raise ConfigError(
            f"A power EMA rate of {rate} is outside (0, 0.28). Cosmos uses 0.10; a smaller rate "
            "remembers less."
        )
    roots = np.roots([1.0, 7.0, 16.0 - inverse_square, 12.0 - inverse_square])
    return float(roots.real.max())


def _without_none(state: object) -> object:
    """Drop the entries that are not averaged."""
    if isinstance(state, dict):
        kept = {key: _without_none(value) for key, value in state.items()}
        return {key: value for key, value in kept.items() if value is not None and value != {}}
    return state


def _leaves(state: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Pairs of path and value of a nested dictionary."""
    if isinstance(state, dict):
        for key, value in state.items():
            yield from _leaves(value, (*path, str(key)))
    else:
        yield path, state
