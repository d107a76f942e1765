"""What a training run is given: its parts, its folder, and the weights that it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
from nemo import lightning as nl

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.family import WorldModel
from nemo_cosmos.models.common.megatron.module import MegatronLightningModule
from nemo_cosmos.options import check_instance
from nemo_cosmos.training.adapters.lora import LoRA
from nemo_cosmos.training.checkpointing.resume import RunResume, restore_source
from nemo_cosmos.training.fingerprint import fingerprint
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.trainer import WorldTrainer
from nemo_cosmos.training.weights.initial import InitialWeights, is_exported

RESUME_ADVICE = "Write RunResume(restore_config=nl.RestoreConfig(path=FOLDER))."


def check_parts(
    model: object, data: object, trainer: object, log: object, resume: object, optim: object
) -> None:
    """Require each part of a run to be of its kind.

    Raises:
        ConfigError: one is not.
    """
    advice = "Build one, such as DiffusionModel(DiTConfig(...)), or take a recipe's."
    check_instance("model", model, pl.LightningModule, advice)
    check_instance("data", data, pl.LightningDataModule, "Write LatentDataModule(FOLDER, ...).")
    advice = "Write nemo_cosmos.training.trainer.WorldTrainer, which takes a Trainer's arguments."
    check_instance("trainer", trainer, WorldTrainer, advice)
    for name, value, kind, advice in (
        ("log", log, nl.NeMoLogger, "Write RunLogger(log_dir=FOLDER, name=NAME)."),
        ("resume", resume, nl.AutoResume, RESUME_ADVICE),
        ("optim", optim, nl.OptimizerModule, "Write nl.MegatronOptimizerModule(config=...)."),
    ):
        if value is not None:
            check_instance(name, value, kind, advice)


def run_digest(
    model: object, data: object, optim: object, resume: nl.AutoResume, peft: LoRA | None
) -> str:
    """A digest of what a run was asked to train."""
    only = () if peft is None else (peft,)
    return fingerprint(model, data, optim, resume.restore_config, *only)


def run_folder_of(log: nl.NeMoLogger) -> Path:
    """The folder that a logger's run writes to, before it is set up."""
    if isinstance(log, RunLogger):
        return log.folder
    if log.explicit_log_dir:
        return Path(log.explicit_log_dir)
    return Path(log.log_dir or "nemo_experiments") / log.name / (log.version or "")


def start_weights(resume: nl.AutoResume) -> Path | None:
    """The folder of weights that a run without a checkpoint of its own starts from."""
    restore = resume.restore_config
    return None if restore is None or not restore.path else restore_source(Path(restore.path))


def take_peft(model: pl.LightningModule, peft: LoRA | None, weights: Path | None) -> None:
    """Tell a model what is trained instead of all its weights.

    Raises:
        ConfigError: it is no world model, or does not start from a world folder.
    """
    if peft is None:
        return
    check_instance("peft", peft, LoRA, "Write LoRA(dim=16), from nemo_cosmos.training.adapters.")
    if not (isinstance(model, MegatronLightningModule) and isinstance(model, WorldModel)):
        raise ConfigError(
            f"{type(model).__name__} has no layers for adapters; they are for world models. Leave "
            "peft_scheme out to train all its weights."
        )
    if weights is None or not is_exported(weights):
        named = "none are named" if weights is None else f"'{weights}' is a checkpoint"
        raise ConfigError(
            f"An adapter belongs to the weights of a world folder, and {named}. Start from an "
            "export ('<run>/export'), or make a world of a checkpoint: nemo-cosmos import "
            "CHECKPOINT WORLD. Nothing has been done."
        )
    if getattr(model, "extends", ()):
        raise ConfigError(
            f"This recipe goes on from its weights in {', '.join(model.extends)}, which changes "
            "the network beyond what an adapter holds. Leave peft_scheme out here, and train an "
            "adapter of the result. Nothing has been done."
        )
    model.peft = peft


def allowed_differences(resume: nl.AutoResume) -> Sequence[str]:
    """The kinds of difference between parts that are meant."""
    return resume.allow_mismatch if isinstance(resume, RunResume) else ()


def restore_exports_by_callback(resume: nl.AutoResume, trainer: pl.Trainer) -> nl.AutoResume:
    """Hand weights of an exported folder to a callback; NeMo restores its own checkpoints."""
    restore, source = resume.restore_config, start_weights(resume)
    if source is None:
        return resume
    if is_exported(source):
        trainer.callbacks.insert(0, InitialWeights(str(source)))
        return replace(resume, restore_config=None)
    # NeMo would look for a tokenizer in the checkpoint's "context" folder; our models have none.
    restored = replace(restore, path=str(source), load_artifacts=False)
    return replace(resume, restore_config=restored)
