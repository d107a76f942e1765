"""Which checkpoint a run goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nemo import lightning as nl
from nemo.utils import AppState

from nemo_cosmos.training.run_folder import list_checkpoints


@dataclass(kw_only=True)
class RunResume(nl.AutoResume):
    """Go on from the newest complete checkpoint of the run's folder, or start where there is none.

    NeMo's class asks for a ``*-last`` link, which is made after the checkpoint is complete: a run
    that is killed between the two would lose the checkpoint, or start anew if it was the first.

    Args:
        restore_config: weights to start from where the run has no checkpoint of its own.
        resume_if_exists: look for one.
        resume_ignore_no_checkpoint: having none is no error.

    The other fields are AutoResume's.
    """

    resume_if_exists: bool = True
    resume_ignore_no_checkpoint: bool = True

    def _find_trainer_ckpt_path(self) -> Path | None:
        if self.resume_from_directory:
            return super()._find_trainer_ckpt_path()
        log_dir = AppState().log_dir
        found = list_checkpoints(Path(log_dir)) if log_dir else []
        return found[-1][0] if found else None
