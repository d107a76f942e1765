"""One training run from set-up to export; ``nemo_cosmos.api`` is its public face."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
from nemo import lightning as nl

from nemo_cosmos.checkpoint.adapters.folder import is_adapter
from nemo_cosmos.checkpoint.formats.nemo_weights import is_nemo_checkpoint
from nemo_cosmos.checkpoint.world.config import format_of
from nemo_cosmos.errors import ConfigError, MissingFileError
from nemo_cosmos.options import check_instance
from nemo_cosmos.training.adapters.lora import LoRA
from nemo_cosmos.training.checkpointing.resume import RunResume, restore_source
from nemo_cosmos.training.given import (
    RESUME_ADVICE,
    check_parts,
    run_digest,
    run_folder_of,
)
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.run_folder import read_finished
from nemo_cosmos.training.session import TrainingSession
from nemo_cosmos.training.weights.initial import is_exported


def train(
    model: pl.LightningModule,
    data: pl.LightningDataModule,
    trainer: pl.Trainer,
    log: nl.NeMoLogger | None = None,
    resume: nl.AutoResume | None = None,
    optim: nl.OptimizerModule | None = None,
    peft: LoRA | None = None,
) -> Path:
    """Train, or resume training, and export; a finished run returns at once.

    Args:
        model: a NeMo Lightning module, such as ``DiffusionModel``.
        data: its data module.
        trainer: a :class:`nemo_cosmos.training.trainer.WorldTrainer`.
        log: the run's folder and loggers; :class:`RunLogger` with its defaults where None.
        resume: where to start from; by default the run's newest checkpoint. Its ``restore_config``
            names the weights of a run that has none: an exported folder, a NeMo checkpoint, or the
            folder of a run.
        optim: replaces the model's optimiser.
        peft: what is trained instead of all weights.

    Returns:
        the run's folder; the trained model is in ``export/`` below it.

    Raises:
        StoppedError: a signal stopped the run after it saved.
        Preempted: the machines were asked for (SIGUSR1); the run saved and is to be continued.
        ConfigError: the folder holds a finished run of other arguments, or cannot be written, or
            the arguments do not fit each other.
        CheckpointError: the checkpoint to resume from is damaged or of another model.
        NumericsError: training diverged.
        StorageFullError: the disk has no room for a checkpoint.
    """
    check_parts(model, data, trainer, log, resume, optim)
    log = log if log is not None else RunLogger(name="run")
    resume = resume if resume is not None else RunResume()
    folder = run_folder_of(log)
    digest = run_digest(model, data, optim, resume, peft)
    if _is_finished(folder, trainer.max_steps, digest):
        return folder
    with TrainingSession.start(model, data, trainer, log, resume, optim, peft) as session:
        session.advance(trainer.max_steps - session.step)
        return session.finish()


def check_restore(resume: nl.AutoResume | None) -> None:
    """Require weights to start post-training from.

    Raises:
        MissingFileError: none are named, or they do not exist.
        ConfigError: they are of a format that is converted first.
    """
    if resume is not None:
        check_instance("resume", resume, nl.AutoResume, RESUME_ADVICE)
    restore = None if resume is None else resume.restore_config
    if restore is None or not restore.path:
        raise MissingFileError(
            "Post-training needs weights to start from, and none are named. Give an exported "
            "folder or a NeMo checkpoint with resume.restore_config.path=PATH, or use 'pretrain' "
            "to start from scratch."
        )
    place = Path(restore.path)
    if not place.exists():
        raise MissingFileError(
            f"'{place}' is not a folder, so there are no weights to start from. Give an exported "
            "folder ('<run>/export') or a NeMo checkpoint."
        )
    source = restore_source(place)
    if is_adapter(source):
        raise ConfigError(
            f"'{place}' is an adapter, not a model. Make a world of it and its base, and start "
            f"from that: nemo-cosmos export BASE WORLD --adapter {place} --format world, then "
            "--from WORLD. Nothing has been done."
        )
    if not (is_exported(source) or format_of(source) or is_nemo_checkpoint(source)):
        raise ConfigError(
            f"'{place}' is neither a folder of ours nor a NeMo checkpoint. Weights of another "
            "format, such as a model.pt or a folder of diffusers, are converted first: nemo-cosmos "
            f"import {place} WORLD, then --from WORLD. Nothing has been done."
        )


def _is_finished(folder: Path, max_steps: int, digest: str) -> bool:
    """Whether the folder holds this very run, complete.

    Raises:
        ConfigError: it holds a complete run of other arguments.
    """
    finished = read_finished(folder)
    if finished is None or finished["step"] < max_steps:
        return False
    if finished["fingerprint"] != digest:
        raise ConfigError(
            f"'{folder}' holds a finished run of {finished['step']} steps with other arguments for "
            "model, data, optimiser or starting weights. Choose another name with log.name=..., "
            "raise trainer.max_steps to continue it, or delete the folder to train again."
        )
    return True
