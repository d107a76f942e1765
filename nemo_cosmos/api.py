"""What one does with a world model, as functions.

In the manner of ``nemo.collections.llm.api``: :func:`pretrain` and :func:`finetune` take the parts
that a recipe configures. :func:`generate`, :func:`predict`, :func:`extend` and :func:`evaluate` are
short ways into ``nemo_cosmos.inference`` and ``nemo_cosmos.evaluation``. Each imports its room when
it is called.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightning.pytorch as pl
    import numpy as np
    from nemo import lightning as nl

__all__ = ["evaluate", "extend", "finetune", "generate", "predict", "pretrain"]

Folder = str | os.PathLike[str]


def pretrain(
    model: pl.LightningModule,
    data: pl.LightningDataModule,
    trainer: pl.Trainer,
    log: nl.NeMoLogger | None = None,
    resume: nl.AutoResume | None = None,
    optim: nl.OptimizerModule | None = None,
) -> Path:
    """Train a model from scratch, or go on from the run's newest checkpoint, and export it.

    Call it again with the same arguments after a stop or a kill: it goes on. A finished run returns
    at once. Several calls may follow each other in one process.

    Args:
        model: ``DiffusionModel`` or ``TokenizerModel``.
        data: ``LatentDataModule`` or ``VideoDataModule``.
        trainer: such as ``nemo_cosmos.training.trainer.WorldTrainer``.
        log: the run's folder, ``<log_dir>/<name>``, its loggers and when to save.
        resume: by default the newest checkpoint of the run's folder, if there is one.
        optim: replaces the model's optimiser.

    Returns:
        the run's folder. The trained model is in ``export/`` below it, the curves in
        ``metrics.jsonl``.

    Raises:
        ConfigError: the folder holds a finished run of other arguments.
        nemo_cosmos.training.signals.StoppedError: Ctrl-C or SIGTERM stopped it, after a save.
    """
    from nemo_cosmos.platform.quiet import quiet_nemo

    quiet_nemo()
    from nemo_cosmos.training.run import train

    return train(model, data, trainer, log, resume, optim)


def finetune(
    model: pl.LightningModule,
    data: pl.LightningDataModule,
    trainer: pl.Trainer,
    log: nl.NeMoLogger | None = None,
    resume: nl.AutoResume | None = None,
    optim: nl.OptimizerModule | None = None,
) -> Path:
    """Post-train a model: the same as :func:`pretrain`, from given weights.

    Args:
        model: may have parameters that the weights lack, such as a control's.
        data: as for :func:`pretrain`.
        trainer: as for :func:`pretrain`.
        log: as for :func:`pretrain`.
        resume: its ``restore_config.path`` names the weights: an exported folder
            (``config.json`` and ``model.safetensors``) or a NeMo checkpoint. A checkpoint of this
            run itself goes first.
        optim: as for :func:`pretrain`.

    Returns:
        the run's folder.

    Raises:
        MissingFileError: no weights are named, or they are not there.
        CheckpointError: the weights are of another model.
    """
    from nemo_cosmos.platform.quiet import quiet_nemo

    quiet_nemo()
    from nemo_cosmos.training.run import check_restore, train

    check_restore(resume)
    return train(model, data, trainer, log, resume, optim)


def generate(world: Folder, prompt: str, **options: Any) -> Any:
    """Make a video from a prompt (Text2World).

    Args:
        world: an exported folder.
        prompt: what happens in the video.
        **options: of ``WorldPipeline.generate``, such as ``num_frames``, ``guidance``, ``steps``,
            ``seed``.

    Returns:
        the result, with ``video``, ``provenance`` and ``save(path)``.
    """
    from nemo_cosmos.inference import WorldPipeline

    return WorldPipeline.from_folder(world).generate(prompt, **options)


def predict(world: Folder, prompt: str | None, frames_THWC: np.ndarray, **options: Any) -> Any:
    """Continue an image or video (Video2World), with controls where the model has them.

    Args:
        world: an exported folder.
        prompt: what happens in the video; None only for a model with a control.
        frames_THWC: the first frames, uint8 RGB.
        **options: of ``WorldPipeline.predict``, such as ``num_condition_frames`` and ``control``.

    Returns:
        the result, as for :func:`generate`.
    """
    from nemo_cosmos.inference import WorldPipeline

    return WorldPipeline.from_folder(world).predict(prompt, frames_THWC, **options)


def extend(
    world: Folder, prompt: str | None, frames_THWC: np.ndarray, num_chunks: int, **options: Any
) -> Any:
    """Make a long video chunk by chunk, each conditioned on the end of the one before.

    Args:
        world: an exported folder.
        prompt: what happens in the video; None only for a model with a control.
        frames_THWC: the first frames, uint8 RGB.
        num_chunks: how many chunks to add.
        **options: of ``WorldPipeline.extend``.

    Returns:
        the result, as for :func:`generate`.
    """
    from nemo_cosmos.inference import WorldPipeline

    return WorldPipeline.from_folder(world).extend(prompt, frames_THWC, num_chunks, **options)


def evaluate(
    generated_THWC: np.ndarray, truth_THWC: np.ndarray, metrics: Sequence[str] | None = None
) -> dict[str, float]:
    """Compare a generated video with the true one; ``nemo-cosmos evaluate`` does so for folders.

    Args:
        generated_THWC: frames, uint8 RGB.
        truth_THWC: frames of the same shape.
        metrics: names such as ``"psnr"``; all where None.

    Returns:
        one number for each metric.
    """
    from nemo_cosmos.evaluation import choose_metrics, evaluate_pair

    return evaluate_pair(generated_THWC, truth_THWC, choose_metrics(metrics))
