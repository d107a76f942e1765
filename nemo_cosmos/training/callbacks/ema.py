"""An exponential moving average of the weights, which is what gets exported and sampled from.

The average is kept in float32 beside the model, a copy of what this rank holds. A distributed
checkpoint holds it under ``ema.*``, split like the weights, so that it loads into any parallel
layout.

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
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from megatron.core.dist_checkpointing.dict_utils import dict_list_map_outplace
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.training.checkpointing.sharded_state import load_sharded, saved_keys
from nemo_cosmos.training.weights import temporary_weights

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
        self._strategy: pl.strategies.Strategy | None = None
        self._weights: list[torch.Tensor] = []
        self._averages: list[torch.Tensor] = []
        self._validation = ExitStack()
        self._resumed = False

    # --- Lightning hooks ----------------------------------------------------------------------
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take a float32 copy of the weights, or the average that the checkpoint holds."""
        self._strategy = trainer.strategy
        self._weights = trainer.strategy.trained_weights()
        self._averages = [_master_weight(p).clone() for p in self._weights]
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
            checkpoint[PREFIX] = self._sharded_state(trainer)

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
        if self._strategy is not None:
            self._strategy.sync_weights()
        # One by one: a float32 copy of all weights at once would be 28 GB of a 7B network.
        for average, parameter in zip(self._averages, self._weights, strict=True):
            average.lerp_(_master_weight(parameter), 1.0 - past)

    def current_decay(self) -> float:
        """Weight of the past at the next update."""
        if self.power_exponent is not None:
            return float((1.0 - 1.0 / (self.num_updates + 1)) ** (self.power_exponent + 1.0))
        return min(self.decay, (1.0 + self.num_updates) / (10.0 + self.num_updates))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model computes with the average."""
        with temporary_weights(self._strategy, self._averages):
            yield

    def _sharded_state(self, trainer: pl.Trainer) -> object:
        """The model's sharded state with the averages in place of the weights."""
        averages = {
            parameter.data_ptr(): average
            for parameter, average in zip(self._weights, self._averages, strict=True)
        }

        def with_average(entry: object) -> object:
            if not isinstance(entry, ShardedTensor | ShardedTensorFactory):
                return None
            average = averages.get(entry.data.data_ptr())
            if average is None:  # a buffer, or a weight that is not trained
                return None
            average = average.view_as(entry.data)
            changes: dict[str, object] = {"key": f"{PREFIX}.{entry.key}", "data": average}
            if isinstance(entry, ShardedTensor):
                changes["dtype"] = average.dtype
            return replace(entry, **changes)

        state = trainer.strategy.megatron_parallel.sharded_state_dict()
        return _without_none(dict_list_map_outplace(with_average, state))

    @torch.no_grad()
    def _restore(self, trainer: pl.Trainer) -> None:
        """Read the averages; a checkpoint that was trained without EMA leaves the weights' copy."""
        if not any(key.startswith(f"{PREFIX}.") for key in saved_keys(trainer.ckpt_path)):
            return
        wanted = self._sharded_state(trainer)
        averages = {path: entry.data for path, entry in _leaves(wanted)}
        loaded = load_sharded(trainer.ckpt_path, {PREFIX: wanted})[PREFIX]
        for path, tensor in _leaves(loaded):
            averages[path].copy_(tensor)


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


def _master_weight(parameter: torch.Tensor) -> torch.Tensor:
    """The float32 weight that the optimiser steps, where this rank holds it whole."""
    main = getattr(parameter, "main_param", None)
    if main is not None and main.numel() == parameter.numel():
        return main.detach().view_as(parameter)
    return parameter.detach().float()


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
