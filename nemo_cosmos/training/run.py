"""One training run from set-up to export; ``nemo_cosmos.api`` is its public face."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
from nemo import lightning as nl

from nemo_cosmos.errors import ConfigError, MissingFileError
from nemo_cosmos.storage import atomic_path
from nemo_cosmos.training.callbacks.signals import StopOnSignal, StoppedError
from nemo_cosmos.training.checkpointing.resume import RunResume
from nemo_cosmos.training.checkpointing.storage import check_writable, clear_storage_errors
from nemo_cosmos.training.export import export_model
from nemo_cosmos.training.fingerprint import fingerprint
from nemo_cosmos.training.initial_weights import InitialWeights, is_exported
from nemo_cosmos.training.lifecycle import training_session
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.run_folder import (
    EXPORT_FOLDER,
    FINISHED_FILE,
    list_checkpoints,
    read_finished,
)


def train(
    model: pl.LightningModule,
    data: pl.LightningDataModule,
    trainer: pl.Trainer,
    log: nl.NeMoLogger | None = None,
    resume: nl.AutoResume | None = None,
    optim: nl.OptimizerModule | None = None,
) -> Path:
    """Train, or go on training, and export; a finished run returns at once.

    Args:
        model: a NeMo Lightning module, such as ``DiffusionModel``.
        data: its data module.
        trainer: such as :class:`nemo_cosmos.training.trainer.WorldTrainer`.
        log: the run's folder and loggers; :class:`RunLogger` with its defaults where None.
        resume: where to start from; by default the run's newest checkpoint. A ``restore_config``
            whose path is an exported folder starts from its weights.
        optim: replaces the model's optimiser.

    Returns:
        the run's folder; the trained model is in ``export/`` below it.

    Raises:
        StoppedError: a signal stopped the run after it saved.
        ConfigError: the folder holds a finished run of other arguments, or cannot be written.
        CheckpointError: the checkpoint to go on from is damaged or of another model.
        StorageFullError: the disk has no room for a checkpoint.
    """
    log = log if log is not None else RunLogger(name="run")
    resume = resume if resume is not None else RunResume()
    folder = run_folder_of(log)
    digest = fingerprint(model, data, optim, resume.restore_config)
    if _is_finished(folder, trainer.max_steps, digest):
        return folder
    check_writable(folder)
    with training_session():
        resume = _split_restore(resume, trainer)
        log.setup(trainer, resume_if_exists=resume.resume_if_exists)
        if optim is not None:
            optim.connect(model)
        resume.setup(trainer, model)
        with clear_storage_errors(folder):
            trainer.fit(model, data)
        _check_ended(trainer, folder)
        export_model(folder / EXPORT_FOLDER, model, trainer, data)
        _mark_finished(folder, trainer, digest)
    return folder


def run_folder_of(log: nl.NeMoLogger) -> Path:
    """The folder that a logger's run writes to, before it is set up."""
    if isinstance(log, RunLogger):
        return log.folder
    if log.explicit_log_dir:
        return Path(log.explicit_log_dir)
    return Path(log.log_dir or "nemo_experiments") / log.name / (log.version or "")


def check_restore(resume: nl.AutoResume | None) -> None:
    """Require weights to start post-training from.

    Raises:
        MissingFileError: none are named, or they are not there.
    """
    restore = None if resume is None else resume.restore_config
    if restore is None or not restore.path:
        raise MissingFileError(
            "Post-training needs weights to start from, and none are named. Give an exported "
            "folder or a NeMo checkpoint with resume.restore_config.path=PATH, or use 'pretrain' "
            "to start from scratch."
        )
    if not Path(restore.path).is_dir():
        raise MissingFileError(
            f"'{restore.path}' is not a folder, so there are no weights to start from. Give an "
            "exported folder ('<run>/export') or a NeMo checkpoint."
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
            "raise trainer.max_steps to go on from it, or delete the folder to train anew."
        )
    return True


def _split_restore(resume: nl.AutoResume, trainer: pl.Trainer) -> nl.AutoResume:
    """Hand weights of an exported folder to a callback; NeMo reads its own checkpoints itself."""
    restore = resume.restore_config
    if restore is None or not is_exported(restore.path):
        return resume
    trainer.callbacks.insert(0, InitialWeights(restore.path))
    return replace(resume, restore_config=None)


def _check_ended(trainer: pl.Trainer, folder: Path) -> None:
    """End here if a signal ended the loop early, or it never began."""
    stops = [callback for callback in trainer.callbacks if isinstance(callback, StopOnSignal)]
    if trainer.global_step == 0:
        raise ConfigError(
            "Training made no step: the data module yields no batch. Check data.path, that it has "
            "at least one global batch of samples, and that trainer.max_steps is positive."
        )
    if any(stop.received for stop in stops) and trainer.global_step < trainer.max_steps:
        saved = list_checkpoints(folder)
        step = saved[-1][1] if saved else 0
        raise StoppedError(
            f"Training stopped on a signal; step {step} is saved in '{folder}'. Run the same "
            "command again to go on."
        )


def _mark_finished(folder: Path, trainer: pl.Trainer, digest: str) -> None:
    """Write the marker that a later call looks for, after everything else is in place."""
    if not trainer.is_global_zero:
        return
    content = {"step": trainer.global_step, "fingerprint": digest, "export": EXPORT_FOLDER}
    with atomic_path(folder / FINISHED_FILE) as path:
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")
