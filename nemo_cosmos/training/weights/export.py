"""From a trained Lightning module to a folder that inference loads without NeMo."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Protocol, runtime_checkable

import lightning.pytorch as pl
import torch

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.batch import spec_of
from nemo_cosmos.checkpoint.world.config import WorldConfig
from nemo_cosmos.checkpoint.world.folder import save_world
from nemo_cosmos.data.tokenize.dataset_info import (
    DATASET_FILE,
    TOKENIZER_KEYS,
    check_tokenizer,
    read_dataset_info,
)
from nemo_cosmos.errors import ConfigError, NemoCosmosError
from nemo_cosmos.models.common.family import ModelDescription, WorldInfo, WorldModel
from nemo_cosmos.models.common.megatron.module import bare_networks
from nemo_cosmos.models.common.megatron.parts import whole_state
from nemo_cosmos.storage import is_url, resolve_from_folder
from nemo_cosmos.training.adapters.saving import save_adapted
from nemo_cosmos.training.callbacks.ema import averaged_weights
from nemo_cosmos.training.weights.initial import initial_weights


@runtime_checkable
class SelfExporting(Protocol):
    """A Lightning module that writes a folder of its own kind, such as a tokenizer's."""

    def export(self, folder: Path, data: pl.LightningDataModule) -> None:
        """Write the folder; every rank calls it."""
        ...


@torch.no_grad()
def export_model(
    folder: Path, model: pl.LightningModule, trainer: pl.Trainer, data: pl.LightningDataModule
) -> None:
    """Write the export folder of a trained model, with the EMA weights where it has them.

    Args:
        folder: replaced as a whole; a reader sees the old export or the new one.
        model: a :class:`WorldModel`, or a :class:`SelfExporting` one such as ``TokenizerModel``.
        trainer: the trainer that trained it.
        data: the training data; they name the tokenizer and the text encoder of a world, and a
            tokenizer measures its latents' statistics on them.

    Raises:
        ConfigError: the model cannot be exported.
    """
    with averaged_weights(trainer):
        if isinstance(model, WorldModel):
            _export_world(folder, model, trainer, data)
        elif isinstance(model, SelfExporting):
            model.export(folder, data)
        else:
            raise ConfigError(
                f"{type(model).__name__} has neither a method 'describe()' nor 'export(folder, "
                "data)', so its weights stay in the run's checkpoints alone. Add one of the two to "
                "use the model for inference."
            )
    trainer.strategy.barrier("export")


def check_exportable(model: pl.LightningModule, data: pl.LightningDataModule) -> None:
    """Before training, require the tokenizer that a world model will be exported with.

    Raises:
        MissingFileError: the tokenizer that made the latents is gone.
        ConfigError: the data do not name it.
    """
    if isinstance(model, WorldModel) and model.world is None:
        for folder in spec_of(data).folders[:1]:
            check_tokenizer(folder)


def checkpoint_description(
    model: pl.LightningModule,
    data: pl.LightningDataModule,
    allowed_mismatch: tuple[str, ...] = (),
) -> JsonObject | None:
    """Return what a checkpoint records besides the weights: ``config.json``, tokenizer's place.

    Args:
        model: the trained module.
        data: the training data.
        allowed_mismatch: differences between what is trained together that someone meant.

    Returns:
        Plain data; None for other than world models, and where neither model nor data say which
        tokenizer and text encoder belong to it.
    """
    if not isinstance(model, WorldModel):
        return None
    described = model.describe()
    if model.world is None and described.fps is None:
        return None
    try:
        info = _world_info(model, described, data)
    except ConfigError:
        return None
    place = info.tokenizer if is_url(info.tokenizer) else str(Path(info.tokenizer).resolve())
    config = replace(WorldConfig.of(described, info), allowed_mismatch=allowed_mismatch)
    return {**config.to_dict(), "tokenizer": place}


def find_tokenizer(model: WorldModel, data: pl.LightningDataModule) -> str:
    """Return the folder of the tokenizer whose latents a world model is trained on.

    Raises:
        ConfigError: neither the model nor the data name one.
    """
    described = model.describe()
    # The frame rate is not used, and finding it might read a batch that training needs.
    return _world_info(model, replace(described, fps=described.fps or 1.0), data).tokenizer


def read_world_info(folder: str | PathLike[str], fps: float) -> WorldInfo:
    """Read from tokenised data what belongs to a world model trained on them.

    Args:
        folder: tokenised data, with the ``dataset.json`` of ``nemo-cosmos tokenize``.
        fps: frame rate of the clips.

    Raises:
        ConfigError: the file does not exist or lacks an entry.
    """
    try:
        data = read_dataset_info(folder)
        height, width = data["window"]["size"]
        return WorldInfo(
            tokenizer=resolve_from_folder(data["tokenizer"], folder),
            text_encoder=dict(data["text_encoder"]),
            made_with={key: data[key] for key in TOKENIZER_KEYS if data.get(key) is not None},
            video={
                "num_frames": int(data["window"]["window_frames"]),
                "fps": fps,
                "height": int(height),
                "width": int(width),
            },
        )
    except (NemoCosmosError, OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"'{folder}/{DATASET_FILE}' does not say which tokenizer, text encoder and window the "
            f"latents are of ({type(error).__name__}: {error}), so the trained model cannot be "
            "exported. Tokenize the data again, or give the model world=WorldInfo(...)."
        ) from error


def _export_world(
    folder: Path, model: WorldModel, trainer: pl.Trainer, data: pl.LightningDataModule
) -> None:
    """Gather the weights from all ranks; the first one writes the folder."""
    described = model.describe()
    info = _world_info(model, described, data)
    state = whole_state(bare_networks(trainer))
    if trainer.is_global_zero:
        meant = getattr(trainer, "allowed_mismatch", ())
        config = replace(WorldConfig.of(described, info), allowed_mismatch=meant)
        peft = getattr(model, "peft", None)
        if peft is None:
            save_world(folder, state, config, info.tokenizer)
        else:
            save_adapted(folder, state, config, info.tokenizer, peft, initial_weights(trainer))


def _world_info(
    model: WorldModel, described: ModelDescription, data: pl.LightningDataModule
) -> WorldInfo:
    """Return what the model was given, else what the first folder of tokenised data says."""
    if model.world is not None:
        return model.world
    spec = spec_of(data)
    folders = spec.folders
    if not folders:
        raise ConfigError(
            f"{type(data).__name__} names no folder with a '{DATASET_FILE}' to read. Give the "
            "model world=WorldInfo(tokenizer=..., text_encoder=..., video=...)."
        )
    fps = described.fps
    if fps is None:  # nothing was trained on in this process: look at the first batch
        batch = next(iter(data.train_dataloader()))
        fps = float(torch.as_tensor(batch["fps"], dtype=torch.float32).median())
    info = read_world_info(folders[0], fps)
    # A model attends to padding: prompts are padded to what it was trained with.
    length = spec.num_text_tokens or info.text_encoder.get("max_length")
    return replace(info, text_encoder={**info.text_encoder, "max_length": length})
