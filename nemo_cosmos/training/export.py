"""From a trained Lightning module to a folder that inference loads without NeMo."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.training.ema import EMA


@torch.no_grad()
def export_model(
    folder: Path, model: pl.LightningModule, trainer: pl.Trainer, data: pl.LightningDataModule
) -> None:
    """Write the export folder of a trained model, with the EMA weights where it has them.

    Args:
        folder: replaced as a whole; a reader sees the old export or the new one.
        model: has a method ``export(folder, data)``, as ``DiffusionModel`` and ``TokenizerModel``.
        trainer: that trained it.
        data: that it was trained on; the tokenizer measures its latents' statistics there.

    Raises:
        ConfigError: the model cannot be exported.
    """
    export: Any = getattr(model, "export", None)
    if export is None:
        raise ConfigError(
            f"{type(model).__name__} has no method 'export(folder, data)', so its weights stay in "
            "the run's checkpoints alone. Add the method to use the model for inference."
        )
    ema = next((callback for callback in trainer.callbacks if isinstance(callback, EMA)), None)
    with nullcontext() if ema is None else ema.applied():
        export(folder, data)
    trainer.strategy.barrier("export")
