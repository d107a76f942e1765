"""What a step checkpoint of a run with adapters holds: what is trained, and nothing of the base.

The base is on disk already, and its weights never change: a run of 82 million trained weights
beside 7 billion frozen ones would otherwise write another 14 GB at every save. A checkpoint records
which base it belongs to; on resume the base is loaded first, then what the checkpoint holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.checkpoint.world.config import BASE_KEY, recorded_base
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.megatron.low_rank import ADAPTER
from nemo_cosmos.platform.distributed import on_first_process
from nemo_cosmos.training.adapters.lora import LoRA
from nemo_cosmos.training.weights.initial import NEW_MODULES, initial_weights, is_addition

Kept = Callable[[str], bool]
"""Whether a step checkpoint holds a weight, by its name."""


def kept_by(model: pl.LightningModule) -> Kept | None:
    """Which weights a model's step checkpoints hold; None for all of them.

    Modules that the base may lack are kept, too, whether they are trained or not.
    """
    peft = getattr(model, "peft", None)
    if not isinstance(peft, LoRA):
        return None
    new: Collection[str] = getattr(model, "new_modules", ())
    modules = {ADAPTER, *NEW_MODULES, *new, *peft.trained_modules}
    return lambda name: is_addition(name, modules)


def without_base(state: Mapping[str, Any], kept: Kept) -> dict[str, Any]:
    """Leave the base's tensors out of a network's sharded state.

    Args:
        state: entries by name, nested where a rank has several pipeline stages.
        kept: which weights stay.
    """
    found: dict[str, Any] = {}
    for name, entry in state.items():
        if isinstance(entry, Mapping):
            found[name] = without_base(entry, kept)
        # Small bookkeeping that is no tensor, such as FP8 scales, stays.
        elif kept(name) or not isinstance(entry, ShardedTensor | ShardedTensorFactory):
            found[name] = entry
    return found


def base_record(trainer: pl.Trainer) -> JsonObject:
    """What a step checkpoint says of the base; empty where it holds all weights."""
    if kept_by(trainer.lightning_module) is None:
        return {}
    start = initial_weights(trainer)
    folder = str(Path(start.folder).resolve())
    return {BASE_KEY: {"folder": folder, "weights_sha256": start.sha256}}


def check_same_base(checkpoint: Path, trainer: pl.Trainer) -> None:
    """Require the base that was loaded to be the one that a checkpoint's adapters belong to.

    Args:
        checkpoint: the checkpoint's folder.
        trainer: the trainer of the run that resumes; all ranks call it.

    Raises:
        ConfigError: the base has other weights now.
    """
    recorded = recorded_base(checkpoint)
    if recorded is None:  # an earlier release saved the base with every step
        return
    start = initial_weights(trainer)
    before, now = str(recorded.get("weights_sha256")), on_first_process(lambda: start.sha256)
    if before != now:
        raise ConfigError(
            f"The adapters in '{checkpoint}' were trained on '{recorded.get('folder')}' (weights "
            f"{before[:12]}), but '{start.folder}' has other weights now ({now[:12]}). Put the "
            "former base back, or start another run with log.name=..."
        )
