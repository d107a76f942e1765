"""Random generators that continue where they stopped.

Noise levels, noise and dropout are drawn from torch's generators. For a resumed run to equal an
uninterrupted one, their states are part of the checkpoint, one row per rank.
"""

from __future__ import annotations

import random
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from megatron.core import parallel_state, tensor_parallel
from megatron.core.dist_checkpointing import ShardedTensor
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.training.checkpointing.sharded_state import load_sharded, saved_keys

PREFIX = "random_state"


class RandomState(pl.Callback, IOMixin):
    """Save and restore the state of every random generator, per rank.

    Hooks:

    - ``on_train_start``: give each data-parallel rank a stream of its own, or restore what the
      checkpoint holds.
    - ``on_save_checkpoint``: add one row per rank to the distributed checkpoint.
    - ``on_load_checkpoint``: remember that this run is resumed.

    A checkpoint that another number of ranks wrote has no row for this rank; the generators then
    start again from the seed and the step.
    """

    def __init__(self) -> None:
        self._resumed = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, object]
    ) -> None:
        """Remember that a checkpoint is being restored."""
        self._resumed = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore this rank's generators, or start them from the seed, the rank and the step."""
        if self._resumed and self._restore(trainer):
            return
        seed = int(getattr(trainer.strategy, "seed", 0))
        rank = parallel_state.get_data_parallel_rank(with_context_parallel=False)
        mixed = np.random.SeedSequence([seed, rank, trainer.global_step]).generate_state(1)
        torch.manual_seed(int(mixed[0]))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, object]
    ) -> None:
        """Add this rank's row to the checkpoint."""
        checkpoint[PREFIX] = _as_sharded(generator_states(), trainer)

    def _restore(self, trainer: pl.Trainer) -> bool:
        sharded = _as_sharded(generator_states(), trainer)
        saved = saved_keys(trainer.ckpt_path)
        for tensor in sharded.values():
            if saved.get(tensor.key) != tuple(tensor.global_shape):
                return False
        rows = load_sharded(trainer.ckpt_path, {PREFIX: sharded})[PREFIX]
        set_generator_states({name: row[0] for name, row in rows.items()})
        return True


def generator_states() -> dict[str, torch.Tensor]:
    """The state of Python's, NumPy's, torch's and Megatron's generators as 1-d integer tensors."""
    _, words, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)
    _, keys, position, has_gauss, cached = legacy
    states = {
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([np.nan if gauss is None else gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(keys.astype(np.int64)),
        "numpy_position": torch.tensor([position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
    }
    for name, state in tensor_parallel.get_cuda_rng_tracker().get_states().items():
        states[f"tracker.{name}"] = state
    return states


def set_generator_states(states: dict[str, torch.Tensor]) -> None:
    """Set all generators to what :func:`generator_states` returned."""
    gauss = float(states["python_gauss"])
    random.setstate((3, tuple(states["python"].tolist()), None if np.isnan(gauss) else gauss))
    position, has_gauss = states["numpy_position"].tolist()
    keys = states["numpy"].numpy().astype(np.uint32)
    cached = float(states["numpy_gauss"])
    np.random.set_state(("MT19937", keys, position, has_gauss, cached))
    torch.cuda.set_rng_state(states["device"].cpu())
    torch.set_rng_state(states["torch"])
    tracked = {
        name.removeprefix("tracker."): state
        for name, state in states.items()
        if name.startswith("tracker.")
    }
    tensor_parallel.get_cuda_rng_tracker().set_states(tracked)


def _as_sharded(states: dict[str, torch.Tensor], trainer: pl.Trainer) -> dict[str, ShardedTensor]:
    """One row per rank of a (world size, length) tensor."""
    return {
        name: ShardedTensor.from_rank_offsets(
            f"{PREFIX}.{name}",
            state[None].contiguous(),
            (0, trainer.global_rank, trainer.world_size),
        )
        for name, state in states.items()
    }
