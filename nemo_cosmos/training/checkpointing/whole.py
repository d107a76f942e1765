"""The newest checkpoint that is as it was written, found by all ranks together."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import lightning.pytorch as pl
import torch.distributed as dist

from nemo_cosmos.checkpoint.formats.checksums import find_damage, is_as_written, read_sums
from nemo_cosmos.checkpoint.formats.nemo import WEIGHTS_FOLDER, verify_checkpoint, weights_folder
from nemo_cosmos.checkpoint.world.config import DESCRIPTION_FILE
from nemo_cosmos.errors import DamagedCheckpointError, MissingFileError
from nemo_cosmos.training.run_folder import CHECKPOINTS_FOLDER, STEP_PATTERN, list_checkpoints

logger = logging.getLogger(__name__)

DAMAGED_SUFFIX = "-damaged"


def whole_checkpoint(trainer: pl.Trainer, checkpoint: Path) -> Path:
    """A checkpoint if it is whole, else the newest before it in the same run that is.

    A damaged one is set aside, with ``-damaged`` behind its name; only the last of these is kept.

    Args:
        trainer: the trainer, which is told the path of another checkpoint.
        checkpoint: the checkpoint's folder, or the ``weights`` in it, as NeMo names it.

    Returns:
        the same of the checkpoint to load.

    Raises:
        DamagedCheckpointError: it is damaged, and there is no other.
    """
    inner = WEIGHTS_FOLDER if checkpoint.name == WEIGHTS_FOLDER else ""
    checkpoint = checkpoint_folder(checkpoint)
    while True:
        damage = find_damage_together(checkpoint, sums=trainer.resilience.verify_checkpoints)
        if not damage:
            return checkpoint / inner
        earlier = _before(checkpoint)
        if earlier is None:
            raise DamagedCheckpointError(
                f"The checkpoint '{checkpoint}' is damaged: {damage}. It was not loaded, and the "
                "run has no earlier one. Copy it again; or delete that folder, and the run starts "
                "from its beginning."
            )
        if trainer.is_global_zero:
            logger.warning(
                "The checkpoint '%s' is damaged: %s. It was set aside as '%s', and the run goes on "
                "from '%s'.",
                checkpoint,
                damage,
                checkpoint.name + DAMAGED_SUFFIX,
                earlier.name,
            )
            _set_aside(checkpoint)
        _barrier()
        trainer.ckpt_path = str(earlier / inner)
        for callback in trainer.checkpoint_callbacks:
            callback.nemo_topk_check_previous_run()  # the list of what the run may delete
        checkpoint = earlier


def checkpoint_folder(path: Path) -> Path:
    """A checkpoint's folder, which NeMo names by the ``weights`` in it."""
    return path.parent if path.name == WEIGHTS_FOLDER else path


def find_damage_together(checkpoint: Path, *, sums: bool = True) -> str:
    """What is wrong with a checkpoint, on all ranks alike; empty where nothing is.

    Args:
        checkpoint: the checkpoint's folder.
        sums: compare files with their checksums, each rank its share of them. Without, files are
            only looked at for being there and long enough.
    """
    rank, num_ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    found = ""
    try:
        verify_checkpoint(checkpoint)
        weights = weights_folder(checkpoint)
        table = read_sums(weights) if sums else None
        if table is not None:
            damaged = find_damage(weights, table, rank=rank, num_ranks=num_ranks)
            found = "; ".join(f"of '{name}', {what}" for name, what in damaged)
        elif sums and rank == 0:
            logger.warning(
                "'%s' was written without checksums, so that a flipped bit would not be noticed; "
                "it is loaded as it is.",
                checkpoint,
            )
    except (DamagedCheckpointError, MissingFileError) as error:
        found = str(error)
    everyone = [found]
    if num_ranks > 1:
        everyone = [""] * num_ranks
        dist.all_gather_object(everyone, found)
    return "; ".join(dict.fromkeys(each.rstrip(".") for each in everyone if each))


def is_described(checkpoint: Path) -> bool:
    """Whether what a checkpoint says of itself is as it was written; a damaged one is not used."""
    return is_as_written(checkpoint / WEIGHTS_FOLDER, f"../{DESCRIPTION_FILE}")


def _before(checkpoint: Path) -> Path | None:
    """The newest complete checkpoint of the same run before one."""
    match = STEP_PATTERN.fullmatch(checkpoint.name)
    if match is None or checkpoint.parent.name != CHECKPOINTS_FOLDER:
        return None
    saved = list_checkpoints(checkpoint.parent.parent)
    return next((path for path, step in reversed(saved) if step < int(match[1])), None)


def _set_aside(checkpoint: Path) -> None:
    for old in checkpoint.parent.glob(f"*{DAMAGED_SUFFIX}"):
        shutil.rmtree(old, ignore_errors=True)
    link = checkpoint.with_name(f"{checkpoint.name}-last")
    if link.is_symlink():
        link.unlink()
    checkpoint.rename(checkpoint.with_name(checkpoint.name + DAMAGED_SUFFIX))


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()
