"""When training saves, which checkpoints it keeps, and what they contain."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import lightning.pytorch as pl
import torch
from megatron.core import parallel_state
from nemo.lightning.ckpt_utils import ckpt_to_dir
from nemo.lightning.pytorch.callbacks import ModelCheckpoint
from nemo.utils import AppState

from nemo_cosmos.checkpoint.world.config import DESCRIPTION_FILE
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.costs import SAVED_STATE_BYTES
from nemo_cosmos.options import Range, check_value
from nemo_cosmos.training.adapters.steps import base_record, kept_by
from nemo_cosmos.training.callbacks.bad_steps import BadSteps
from nemo_cosmos.training.callbacks.ema import EMA
from nemo_cosmos.training.checkpointing.storage import check_room
from nemo_cosmos.training.run_folder import list_checkpoints
from nemo_cosmos.training.weights.export import checkpoint_description

AVERAGE_BYTES = 4
"""The averaged weight is float32."""


class StepCheckpoint(ModelCheckpoint):
    """Keep the newest checkpoints, named by step, with the optimiser in every one.

    A folder ``step=000200`` is one checkpoint; ``step=000200-last`` is a link to it, which NeMo's
    ``AutoResume`` looks for. At least two are kept: while the newest is being written, the one
    before it stays whole.

    NeMo's class saves "top k" and "last" as two full copies, dumps the training context (0.7 s)
    with each, and leaves the optimiser out of the last one; a tiny model then takes 6 to 7 s.

    Args:
        every_n_train_steps: steps between two saves; None saves by time, or only at the end.
        train_time_interval_s: seconds between two saves; not together with steps.
        keep: number of checkpoints to keep, 2 or more.
        save_context: write NeMo's serialised trainer and model beside the weights, which
            ``nemo.lightning.io.load_context`` reads.

    Raises:
        ConfigError: both steps and seconds are given.
    """

    def __init__(
        self,
        every_n_train_steps: int | None = None,
        train_time_interval_s: float | None = None,
        keep: int = 2,
        save_context: bool = False,
        **kwargs: object,
    ) -> None:
        check_value("every_n_train_steps", every_n_train_steps, int | None, Range(least=0))
        check_value("train_time_interval_s", train_time_interval_s, float | None, Range(above=0))
        check_value("keep", keep, int, Range(least=0))
        if every_n_train_steps and train_time_interval_s is not None:
            raise ConfigError(
                f"Checkpoints are saved every {every_n_train_steps} steps or every "
                f"{train_time_interval_s:g} s, not both. The recipe names one of them: turn it off "
                "with log.ckpt.train_time_interval_s=null or log.ckpt.every_n_train_steps=null."
            )
        interval = None
        if train_time_interval_s is not None:
            interval = timedelta(seconds=train_time_interval_s)
        elif every_n_train_steps is None:
            every_n_train_steps = 0
        super().__init__(
            monitor="step",
            mode="max",
            filename="{step:06d}",
            save_top_k=max(keep, 2),
            save_last="link",
            every_n_train_steps=every_n_train_steps,
            train_time_interval=interval,
            save_on_train_epoch_end=False,
            save_optim_on_train_end=True,
            always_save_context=save_context,
            save_context_on_train_end=False,
            enable_version_counter=False,
            **kwargs,
        )

    def nemo_topk_check_previous_run(self) -> None:
        """Find the checkpoints of an earlier run of this folder by their names' steps.

        NeMo's own method reads the step behind the first place in the whole path that contains the
        monitor's name, which fails below a folder called, say, ``two_steps``.
        """
        found = {str(path): step for path, step in list_checkpoints(Path(self.dirpath).parent)}
        for path in list(found)[: -self.save_top_k]:
            self._del_model_without_trainer(path)
            del found[path]
        self.best_k_models = found
        self.kth_best_model_path = next(iter(found), "")
        self.best_model_path = next(reversed(found), "")
        self.best_model_score = found.get(self.best_model_path)

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Restore the list of checkpoints, unless the run's folder was moved since.

        The list then comes from :meth:`nemo_topk_check_previous_run` alone.
        """
        if str(state_dict.get("dirpath", self.dirpath)) == str(self.dirpath):
            super().load_state_dict(state_dict)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the first step, require room for at least one checkpoint.

        Raises:
            StorageFullError: there is none.
        """
        super().on_train_start(trainer, pl_module)
        # A run that returns to a checkpoint starts again, when the logs of former runs have moved.
        AppState().files_to_move = []
        if trainer.ckpt_path:
            self._last_global_step_saved = trainer.global_step  # on disk already
        check_room(Path(self.dirpath), checkpoint_bytes(trainer))

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        """Save, with a description of the model beside the weights; not after a bad step."""
        for callback in trainer.callbacks:
            if isinstance(callback, BadSteps):
                callback.look(trainer)
        if trainer.is_global_zero:
            self._describe(trainer, ckpt_to_dir(filepath))
        super()._save_checkpoint(trainer, filepath)

    def _describe(self, trainer: pl.Trainer, folder: Path) -> None:
        """Write what ``nemo-cosmos import`` needs to know, where the model can say it."""
        meant = getattr(trainer, "allowed_mismatch", ())
        content = checkpoint_description(trainer.lightning_module, trainer.datamodule, meant)
        if content is not None:
            content = {**content, **base_record(trainer)}
            self.set_checkpoint_unfinished_marker(folder)  # the folder is no checkpoint yet
            folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(content, indent=2) + "\n"
            (folder / DESCRIPTION_FILE).write_text(text, encoding="utf-8")

    def _monitor_candidates(self, trainer: pl.Trainer) -> dict[str, torch.Tensor]:
        """Count steps that are done; NeMo's logged metric of that name lags by one."""
        candidates = super()._monitor_candidates(trainer)
        return candidates | {"step": torch.tensor(trainer.global_step)}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do nothing: the schedule counts training steps, not validations."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last step, unless the schedule has just done so."""
        if self._last_global_step_saved == trainer.global_step:
            return
        candidates = self._monitor_candidates(trainer)
        self._save_topk_checkpoint(trainer, candidates)
        self._save_last_checkpoint(trainer, candidates)


def checkpoint_bytes(trainer: pl.Trainer) -> int:
    """About the size of a checkpoint: weights, their average and the optimiser's state.

    Of a run with adapters it is what is trained.
    """
    parameters = list(trainer.strategy.model.parameters())
    if kept_by(trainer.lightning_module) is not None:
        parameters = [parameter for parameter in parameters if parameter.requires_grad]
    weights = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    has_average = any(isinstance(callback, EMA) for callback in trainer.callbacks)
    state = trained * (SAVED_STATE_BYTES + AVERAGE_BYTES * int(has_average))
    parts = parallel_state.get_tensor_model_parallel_world_size()
    parts *= parallel_state.get_pipeline_model_parallel_world_size()
    return (weights + state) * parts
