"""What recipes share: optimiser, trainer, log and starting weights as configurations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import nemo_run as run
from megatron.core.optimizer import OptimizerConfig
from nemo import lightning as nl
from nemo.lightning.pytorch.optim import (
    CosineAnnealingScheduler,
    PolynomialDecayAnnealingScheduler,
    WarmupPolicyScheduler,
)

from nemo_cosmos import api
from nemo_cosmos.training.callbacks.ema import EMA
from nemo_cosmos.training.callbacks.obedience import Obedience
from nemo_cosmos.training.callbacks.samples import SampleVideos
from nemo_cosmos.training.callbacks.world_sampler import WorldSampler
from nemo_cosmos.training.checkpointing.resume import RunResume
from nemo_cosmos.training.checkpointing.step_checkpoint import StepCheckpoint
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.resilience.settings import Resilience
from nemo_cosmos.training.strategy import WorldStrategy
from nemo_cosmos.training.trainer import WorldTrainer
from recipes.config import Config, Partial


def task(
    model: run.Config,
    data: run.Config,
    trainer: run.Config,
    optim: run.Config,
    log: run.Config,
    *,
    post_training: bool,
) -> run.Partial:
    """A whole recipe.

    Args:
        model: configuration of a Lightning module.
        data: configuration of a data module.
        trainer: configuration of :class:`WorldTrainer`.
        optim: configuration of an optimiser module.
        log: configuration of :class:`RunLogger`.
        post_training: ``finetune``, whose weights the user names, instead of ``pretrain``.
    """
    function = api.finetune if post_training else api.pretrain
    return Partial(
        function,
        model=model,
        data=data,
        trainer=trainer,
        optim=optim,
        log=log,
        resume=resume(post_training),
    )


def resume(post_training: bool) -> run.Config:
    """Resume from the run's newest checkpoint, else start fresh or from weights to be named."""
    config = Config(RunResume)
    if post_training:
        config.restore_config = Config(nl.RestoreConfig, path="")
    return config


def trainer(
    max_steps: int,
    *,
    precision: str = "bf16-mixed",
    grad_reduce_in_fp32: bool = True,
    num_nodes: int = 1,
    devices: int = 1,
    ema: run.Config | None = None,
    samples: run.Config | None = None,
    log_every_n_steps: int = 10,
    **strategy: object,
) -> run.Config:
    """A trainer.

    Args:
        max_steps: optimiser steps.
        precision: ``"32"`` or ``"bf16-mixed"``.
        grad_reduce_in_fp32: whether gradients are accumulated in float32.
        num_nodes: number of machines.
        devices: ranks on each machine.
        ema: configuration of :class:`EMA`, or None for none.
        samples: configuration of :class:`SampleVideos`, or None for none.
        log_every_n_steps: steps between two points of the curves.
        **strategy: arguments of :class:`WorldStrategy`, such as ``tensor_model_parallel_size``.
    """
    return Config(
        WorldTrainer,
        max_steps=max_steps,
        precision=precision,
        grad_reduce_in_fp32=grad_reduce_in_fp32,
        num_nodes=num_nodes,
        devices=devices,
        strategy=Config(WorldStrategy, **strategy),
        callbacks=[callback for callback in (ema, samples) if callback is not None],
        resilience=Config(Resilience),
        log_every_n_steps=log_every_n_steps,
    )


def ema(decay: float = 0.999, power_rate: float | None = None) -> run.Config:
    """An average of the weights."""
    return Config(EMA, decay=decay, power_rate=power_rate)


def sample_videos(every_n_steps: int, num_videos: int = 1, steps: int = 10) -> run.Config:
    """Videos that the model makes during training, in few sampling steps.

    Args:
        every_n_steps: how often; 0 for never.
        num_videos: number of videos.
        steps: sampling steps.
    """
    sampler = Config(WorldSampler, num_videos=num_videos, options={"steps": steps})
    return Config(SampleVideos, sampler=sampler, every_n_steps=every_n_steps)


def obedience(
    every_n_steps: int, num_episodes: int = 8, options: Mapping[str, object] | None = None
) -> run.Config:
    """A measure, during training, of whether the model obeys its control.

    Args:
        every_n_steps: how often; 0 for never.
        num_episodes: number of examples, each generated twice.
        options: the family's own choices; by default those of a diffusion model, without guidance.
    """
    chosen = dict({"steps": 10, "guidance": 0.0} if options is None else options)
    return Config(Obedience, every_n_steps=every_n_steps, num_episodes=num_episodes, options=chosen)


# Actions in Bridge's scale (20 times metres or radians a frame) lie within [-1, 1] but are mostly
# small; unnormalised, a model needs many more steps to notice them. These are the simulator's,
# rounded; ``nemo-cosmos dataset inspect`` measures those of other data.
_ACTION_STATS = {
    "mean": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.45),
    "std": (0.25, 0.25, 0.25, 0.1, 0.1, 0.2, 0.5),
}


def action_options() -> dict[str, object]:
    """What an action control is built with: actions in Bridge's form and scale."""
    stats = {name: list(values) for name, values in _ACTION_STATS.items()}
    return {"embodiment": "bridge_7", **stats}


def adamw(
    lr: float,
    *,
    warmup_steps: int,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-8,
    min_lr: float | None = None,
) -> run.Config:
    """AdamW with a linear warm-up, then constant or a cosine.

    Args:
        lr: highest learning rate.
        warmup_steps: steps until it is reached.
        weight_decay: decoupled weight decay, not of biases and norms.
        betas: decay of the two moments.
        eps: term added to the root of the second moment.
        min_lr: the value at the last step, after a cosine; None keeps ``lr``.
    """
    schedule = Config(WarmupPolicyScheduler, warmup_steps=warmup_steps)
    if min_lr is not None:
        schedule = Config(
            CosineAnnealingScheduler, warmup_steps=warmup_steps, constant_steps=0, min_lr=min_lr
        )
    config = Config(
        OptimizerConfig,
        optimizer="adam",
        lr=lr,
        weight_decay=weight_decay,
        adam_beta1=betas[0],
        adam_beta2=betas[1],
        adam_eps=eps,
        clip_grad=1.0,
        use_distributed_optimizer=True,
    )
    return Config(nl.MegatronOptimizerModule, config=config, lr_scheduler=schedule)


def decay_to_zero(optim: run.Config) -> None:
    """Let the learning rate of an optimiser fall in a line, to 0 at the last step.

    Args:
        optim: the configuration, changed in place.
    """
    optim.lr_scheduler = Config(PolynomialDecayAnnealingScheduler, power=1.0, min_lr=0.0)


def log(
    name: str,
    *,
    every_n_train_steps: int | None = None,
    train_time_interval_s: float | None = None,
) -> run.Config:
    """The run's folder ``outputs/<name>``, and when to save."""
    checkpoint = Config(
        StepCheckpoint,
        every_n_train_steps=every_n_train_steps,
        train_time_interval_s=train_time_interval_s,
    )
    return Config(RunLogger, name=name, log_dir="outputs", ckpt=checkpoint)


def as_config(value: object) -> object:
    """A dataclass instance as a configuration of itself, so that single fields can be set."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return Config(type(value), **{name: as_config(getattr(value, name)) for name in names})
    if isinstance(value, Mapping):
        return {key: as_config(item) for key, item in value.items()}
    return value
