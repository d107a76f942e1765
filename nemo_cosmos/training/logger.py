"""Where a run writes: its folder, log files, TensorBoard and, if asked for, Weights & Biases.

:mod:`nemo_cosmos.training.run_folder` lists what that folder contains.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from nemo import lightning as nl

from nemo_cosmos.platform import require
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint

LOG_SUFFIXES = frozenset({".txt", ".log"})


@dataclass
class RunLogger(nl.NeMoLogger):
    """NeMoLogger that keeps all files of a run in one folder, ``<log_dir>/<name>``.

    Args:
        name: the run's name.
        log_dir: folder of all runs.
        tensorboard_enabled: write TensorBoard files.
        wandb_project: also log to this Weights & Biases project; needs the ``wandb`` package.
        ckpt: when to save; a :class:`StepCheckpoint` that saves every 1000 steps by default.

    The other fields are NeMoLogger's.
    """

    log_dir: str | None = "outputs"
    use_datetime_version: bool = False
    update_logger_directory: bool = False
    ckpt: object = None
    tensorboard: object = None
    wandb: object = None
    tensorboard_enabled: bool = True
    wandb_project: str | None = None

    @property
    def folder(self) -> Path:
        """The folder of this run."""
        if self.explicit_log_dir:
            return Path(self.explicit_log_dir)
        return Path(self.log_dir or "outputs") / self.name

    def setup(
        self, trainer: pl.Trainer, resume_if_exists: bool = False, **kwargs: object
    ) -> object:
        """Attach loggers and the checkpoint callback to the trainer; make the folder."""
        if self.tensorboard_enabled and self.tensorboard is None:
            self.tensorboard = TensorBoardLogger(str(self.folder), name="tensorboard", version="")
        if self.wandb_project and self.wandb is None:
            require("wandb")
            self.wandb = WandbLogger(
                project=self.wandb_project, name=self.name, save_dir=str(self.folder)
            )
        if self.ckpt is None:
            self.ckpt = StepCheckpoint(every_n_train_steps=1000)
        state = super().setup(trainer, resume_if_exists=resume_if_exists, **kwargs)
        # NeMo moves every file of an earlier run aside; curves and markers have to stay.
        state.files_to_move = [path for path in state.files_to_move if path.suffix in LOG_SUFFIXES]
        return state
