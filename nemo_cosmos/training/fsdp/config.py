"""The settings that FSDP needs, and what does not go with it, refused before anything is built."""

from __future__ import annotations

from dataclasses import replace

from megatron.core.distributed import DistributedDataParallelConfig

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import collective_backend


def fsdp_config(given: object = None) -> DistributedDataParallelConfig:
    """Settings that shard weights, gradients and optimiser state.

    Args:
        given: the user's settings; all but those of sharding are kept.

    Raises:
        ConfigError: they are settings of another kind of data parallelism.
    """
    config = DistributedDataParallelConfig() if given in (None, "megatron") else given
    if not isinstance(config, DistributedDataParallelConfig):
        raise ConfigError(
            f"trainer.strategy.ddp={given!r} does not go with trainer.strategy.fsdp=megatron. "
            "Leave it out, or give a DistributedDataParallelConfig."
        )
    return replace(
        config,
        use_distributed_optimizer=True,
        use_megatron_fsdp=True,
        data_parallel_sharding_strategy="optim_grads_params",
        gradient_reduce_div_fusion=collective_backend() == "nccl",
    )


def check_fsdp(fsdp: str | None, num_stages: int) -> None:
    """Refuse what FSDP cannot do, before anything is built.

    Args:
        fsdp: the strategy's argument ``fsdp``.
        num_stages: pipeline-parallel stages.

    Raises:
        ConfigError: an unknown kind, or a pipeline.
    """
    if fsdp != "megatron":
        raise ConfigError(
            f"There is no trainer.strategy.fsdp={fsdp}. Valid is 'megatron', or none."
        )
    if num_stages > 1:
        raise ConfigError(
            f"trainer.strategy.fsdp=megatron does not go with pipeline_model_parallel_size="
            f"{num_stages}: Megatron-FSDP shards whole networks. Combine it with "
            "tensor_model_parallel_size and context_parallel_size, or leave it out."
        )


def check_fsdp_precision(precision: object, optimizer: object) -> None:
    """Refuse a precision and an optimiser that Megatron-FSDP cannot step.

    Args:
        precision: the trainer's precision plug-in.
        optimizer: the model's NeMo optimiser module, or None.

    Raises:
        ConfigError: float16, or an optimiser whose state is not distributed, or that keeps weights
            of its own.
    """
    if getattr(getattr(precision, "dtype_config", None), "fp16", False):
        raise ConfigError(
            "trainer.strategy.fsdp=megatron does not go with trainer.precision=16-mixed. Set "
            "trainer.precision=bf16-mixed, or 32."
        )
    config = getattr(optimizer, "config", None)
    if not getattr(config, "use_distributed_optimizer", True):
        raise ConfigError(
            "trainer.strategy.fsdp=megatron shards the optimiser's state, too. Set "
            "optim.config.use_distributed_optimizer=true."
        )
    if getattr(config, "use_precision_aware_optimizer", False):
        raise ConfigError(
            "trainer.strategy.fsdp=megatron keeps the optimiser's float32 weights itself. Set "
            "optim.config.use_precision_aware_optimizer=false."
        )
