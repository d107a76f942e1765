"""Post-training starts here: weights of an exported folder, loaded into a freshly built model."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import lightning.pytorch as pl
from nemo.lightning.io.mixin import IOMixin

from nemo_cosmos.checkpoint.adapters.folder import weights_sha256
from nemo_cosmos.checkpoint.formats.safetensors import has_weights
from nemo_cosmos.checkpoint.loading import load_weights
from nemo_cosmos.checkpoint.tokenizer.files import check_tokenizer_files
from nemo_cosmos.checkpoint.world.config import (
    CONFIG_FILE,
    TOKENIZER_FOLDER,
    TOKENIZER_FORMAT,
    WEIGHTS_FILE,
    format_of,
    read_config,
)
from nemo_cosmos.checkpoint.world.folder import check_weights, open_weights
from nemo_cosmos.models.common.megatron.module import bare_networks
from nemo_cosmos.models.tokenizer.tokenizer import read_tokenizer_config

logger = logging.getLogger(__name__)

NEW_MODULES = frozenset({"controls", "adapter", "logvar", "view_embed"})
"""Modules that training may add to given weights: controls, adapters, the learned variance, the
embedding of several cameras."""


def is_exported(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is an export (``config.json`` and ``model.safetensors``)."""
    return (Path(folder) / CONFIG_FILE).is_file() and has_weights(Path(folder) / WEIGHTS_FILE)


def check_own_weights(folder: Path) -> None:
    """Require the weights of an export to be those of the model that its ``config.json`` describes.

    The network that is trained is taken from that description. No weight is read. A NeMo checkpoint
    describes itself.

    Raises:
        MissingFileError, CheckpointError: a file is missing, damaged, or of another model.
    """
    if not is_exported(folder):
        return
    if format_of(folder) == TOKENIZER_FORMAT:
        check_tokenizer_files(folder)
        return
    check_weights(read_config(folder), read_tokenizer_config(folder / TOKENIZER_FOLDER), folder)


class InitialWeights(pl.Callback, IOMixin):
    """Load an exported model's weights before the first step.

    The export may lack the parameters of what training adds, such as a control, or what a model
    names as ``new_modules``; these keep their initial values and are named in the log. So do the
    rows that one of its ``longer_weights`` has beyond the export's. Any other difference is an
    error: a network of another depth would be trained from half random weights. Each rank reads
    only its part of a tensor.

    Hooks:

    - ``on_fit_start``: load, unless a checkpoint with all weights of this run is about to be
      restored; then copy the weights to the optimiser's float32 copies. The checkpoints of a run
      with adapters lack the base's weights.

    Args:
        folder: the export's folder, with ``config.json`` and ``model.safetensors``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.new_names: list[str] = []

    @cached_property
    def sha256(self) -> str:
        """A hash of the weights; they are read once for it."""
        return weights_sha256(open_weights(Path(self.folder) / WEIGHTS_FILE))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the weights.

        Raises:
            CheckpointError: they are damaged or of another model.
            NumericsError: a weight is NaN or infinite.
        """
        if trainer.ckpt_path and getattr(pl_module, "peft", None) is None:
            return
        weights = open_weights(Path(self.folder) / WEIGHTS_FILE)
        networks = bare_networks(trainer)
        added = NEW_MODULES | getattr(pl_module, "new_modules", frozenset())
        loaded = load_weights(
            networks,
            weights,
            "this model",
            may_be_new=lambda name: is_addition(name, added),
            may_be_longer=getattr(pl_module, "longer_weights", frozenset()),
        )
        loaded.say()
        self.new_names = list(loaded.missing)
        # The optimiser holds float32 copies that were made of the initial weights.
        trainer.strategy.weights_written(step_from_them=True)
        if self.new_names:
            logger.info("New parameters, not in '%s': %s", self.folder, ", ".join(self.new_names))


def initial_weights(trainer: pl.Trainer) -> InitialWeights:
    """The exported weights that a run starts from.

    Args:
        trainer: a trainer whose run starts from an export.
    """
    (found,) = (one for one in trainer.callbacks if isinstance(one, InitialWeights))
    return found


def is_addition(name: str, modules: Collection[str] = NEW_MODULES) -> bool:
    """Whether a parameter, by its name, belongs to modules that training may add to weights."""
    return not set(modules).isdisjoint(name.split("."))
