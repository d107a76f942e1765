"""Which checkpoint a run resumes from, and which weights it starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nemo import lightning as nl
from nemo.utils import AppState

from nemo_cosmos.storage import exported_folder
from nemo_cosmos.training.run_folder import list_checkpoints
from nemo_cosmos.training.weights.initial import is_exported


@dataclass(kw_only=True)
class RunResume(nl.AutoResume):
    """Resume from the newest complete checkpoint of the run's folder; start where there is none.

    NeMo's class asks for a ``*-last`` link, which is made after the checkpoint is complete: a run
    that is killed between the two would lose the checkpoint, or start again if it was the first.

    Args:
        restore_config: weights to start from where the run has no checkpoint of its own.
        resume_if_exists: look for one.
        resume_ignore_no_checkpoint: having none is no error.
        allow_mismatch: kinds of difference between data, model and starting weights that are
            meant; see :mod:`nemo_cosmos.provenance.belonging`.

    The other fields are AutoResume's.
    """

    resume_if_exists: bool = True
    resume_ignore_no_checkpoint: bool = True
    allow_mismatch: tuple[str, ...] = ()

    def _find_trainer_ckpt_path(self) -> Path | None:
        if self.resume_from_directory:
            return super()._find_trainer_ckpt_path()
        log_dir = AppState().log_dir
        found = list_checkpoints(Path(log_dir)) if log_dir else []
        return found[-1][0] if found else None


def restore_source(path: Path) -> Path:
    """The folder of weights that a path names.

    Args:
        path: an exported folder, a NeMo checkpoint, or the folder of a run.

    Returns:
        of a run, its export, or its newest checkpoint where there is no export; else the path.
    """
    export = exported_folder(path)
    if is_exported(export):
        return export
    checkpoints = list_checkpoints(path)
    return checkpoints[-1][0] if checkpoints else path
