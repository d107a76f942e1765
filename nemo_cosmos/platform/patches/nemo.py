"""The changes that NeMo 2.7.3 needs to train with Megatron-Core 0.16, and to train on a CPU.

NeMo is imported inside the functions: importing it takes many seconds, and only training needs it.
"""

from __future__ import annotations

import functools
import importlib
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from nemo_cosmos.platform.cpu_backend import install_cpu_backend
from nemo_cosmos.platform.patches.checkpoint_sums import patch_checkpoint_sums
from nemo_cosmos.platform.patches.checkpoints import patch_checkpoints
from nemo_cosmos.platform.patches.fused_adam import use_fused_adam

if TYPE_CHECKING:
    from collections.abc import Sequence

    from megatron.core.optimizer import MegatronOptimizer, OptimizerConfig, ParamKey
    from megatron.core.transformer.module import MegatronModule

# NeMo's modules that log numbers as ``torch.tensor(x, pin_memory=True).to("cuda")``.
_MODULES_WITH_PINNED_TENSORS = (
    "nemo.lightning.pytorch.plugins.data_sampler",
    "nemo.lightning.pytorch.strategies.megatron_strategy",
)

ParameterCondition = Callable[[str, torch.nn.Parameter], bool]
_installed = False


def install_nemo_patches() -> None:
    """Adapt NeMo to Megatron-Core 0.16 and, where there is no GPU, to the CPU.

    Call it before a trainer is built. Calling it again is free. Installs the Megatron CPU backend
    first.
    """
    global _installed
    on_cpu = install_cpu_backend()
    use_fused_adam()
    if _installed:
        return
    _translate_optimizer_arguments()
    _leave_out_telemetry()
    _restore_background_saves()
    _let_networks_go()
    patch_checkpoints()
    patch_checkpoint_sums()
    if on_cpu:
        _patch_checkpoint_devices()
        _patch_logged_tensors()
    _installed = True


@contextmanager
def wrapping_networks_in(wrapper: type) -> Iterator[None]:
    """Within the block, NeMo wraps networks for FSDP in ``wrapper``.

    Args:
        wrapper: a subclass of Megatron's ``FullyShardedDataParallel``, which NeMo looks up in its
            own module.
    """
    module: Any = importlib.import_module("nemo.lightning.megatron_parallel")
    original = module.FullyShardedDataParallel
    module.FullyShardedDataParallel = wrapper
    try:
        yield
    finally:
        module.FullyShardedDataParallel = original


def _leave_out_telemetry() -> None:
    """Take NVIDIA's internal telemetry out of NeMo's callbacks.

    It is on wherever a launcher sets ``RANK=0``, wants settings that only NeMo's own recipes make,
    and ends the run at its first checkpoint without them.
    """
    module = importlib.import_module("nemo.lightning.callback_group")
    telemetry = importlib.import_module("nemo.lightning.one_logger_callback").OneLoggerNeMoCallback
    group = module.CallbackGroup.get_instance()
    group._callbacks = [one for one in group._callbacks if not isinstance(one, telemetry)]


def _restore_background_saves() -> None:
    """Give NeMo's background saves the two classes that they are made of.

    NeMo imports them together with Megatron-Core's tensorstore format, which 0.16 no longer has,
    takes the failed import for a missing Megatron-Core, and refuses every asynchronous save.
    """
    module: Any = importlib.import_module("nemo.utils.callbacks.dist_ckpt_io")
    if module.HAVE_MEGATRON_CORE:
        return
    calls = importlib.import_module("megatron.core.dist_checkpointing.strategies.async_utils")
    module.AsyncCallsQueue, module.AsyncRequest = calls.AsyncCallsQueue, calls.AsyncRequest
    module.HAVE_MEGATRON_CORE = True


def _let_networks_go() -> None:
    """Let a run's network, optimiser and process groups be freed once nobody uses them.

    Megatron-Core hangs a hook on each weight's node of the autograd graph, and the hook holds the
    network's wrapper, which holds the nodes. The circle goes through C++, where Python's collector
    does not follow: all that a run made would stay in memory, its communication threads as well,
    until the process ends. With a weak reference in the hook there is no circle.
    """
    wrapper = importlib.import_module("megatron.core.distributed").DistributedDataParallel
    make_hook = wrapper._make_backward_post_hook

    @functools.wraps(make_hook)
    def make_weak_hook(self: object, param: torch.nn.Parameter) -> Callable[..., None]:
        hook: Callable[..., None] = make_hook(weakref.proxy(self), param)
        return hook

    wrapper._make_backward_post_hook = make_weak_hook


def optimizer_overrides(
    config: OptimizerConfig,
    no_weight_decay_cond: ParameterCondition | None = None,
    scale_lr_cond: ParameterCondition | None = None,
    lr_mult: float = 1.0,
) -> dict[ParamKey, dict[str, object]] | None:
    """Translate arguments of NeMo's optimiser module, made for Megatron-Core 0.15, to 0.16's.

    Args:
        config: Megatron's ``OptimizerConfig``.
        no_weight_decay_cond: true for a parameter, given its name and itself, that must not
            decay; ``None`` for Megatron's rule (biases and one-dimensional parameters).
        scale_lr_cond: true for a parameter whose learning rate is multiplied by ``lr_mult``.
        lr_mult: the factor.

    Returns:
        ``config_overrides`` for ``get_megatron_optimizer``, or ``None`` for its defaults.
    """
    from megatron.core.optimizer import ParamKey, get_standard_config_overrides
    from megatron.core.optimizer.optimizer_config import ParamWithNamePredicate

    if no_weight_decay_cond is None and scale_lr_cond is None:
        return None

    def key(name: str, condition: ParameterCondition) -> ParamKey:
        predicate = ParamWithNamePredicate(
            name=name, fn=lambda parameter, name: bool(condition(name, parameter))
        )
        return ParamKey(with_name_predicate=predicate)

    if no_weight_decay_cond is None:
        overrides = dict(get_standard_config_overrides(config))
    else:
        overrides = {key("no_weight_decay", no_weight_decay_cond): {"wd_mult": 0.0}}
    if scale_lr_cond is not None and lr_mult != 1.0:
        overrides[key("scaled_lr", scale_lr_cond)] = {
            "lr_mult": lr_mult,
            "max_lr": config.lr * lr_mult,
            "min_lr": (config.min_lr or 0.0) * lr_mult,
        }
    return overrides


def _translate_optimizer_arguments() -> None:
    """Let ``get_megatron_optimizer`` take the arguments that NeMo still passes."""
    import megatron.core.optimizer as optimizers

    build = optimizers.get_megatron_optimizer

    @functools.wraps(build)
    def get_megatron_optimizer(
        config: OptimizerConfig,
        model_chunks: Sequence[MegatronModule],
        no_weight_decay_cond: ParameterCondition | None = None,
        scale_lr_cond: ParameterCondition | None = None,
        lr_mult: float = 1.0,
        **kwargs: Any,
    ) -> MegatronOptimizer:
        overrides = optimizer_overrides(config, no_weight_decay_cond, scale_lr_cond, lr_mult)
        if overrides is not None:
            kwargs["config_overrides"] = {**overrides, **(kwargs.get("config_overrides") or {})}
        return build(config, model_chunks, **kwargs)

    optimizers.get_megatron_optimizer = get_megatron_optimizer


def _patch_checkpoint_devices() -> None:
    """A loaded checkpoint's tensors are on the CPU, and stay there."""
    import nemo.lightning.io.pl as checkpoint_io

    def keep_devices(checkpoint: dict[str, object]) -> dict[str, object]:
        return checkpoint

    checkpoint_io._fix_tensors_device = keep_devices


def _patch_logged_tensors() -> None:
    from nemo_cosmos.platform.patches.megatron import CpuTorch

    cpu_torch = CpuTorch()
    cpu_torch.tensor = _logged_tensor
    for name in _MODULES_WITH_PINNED_TENSORS:
        importlib.import_module(name).torch = cpu_torch  # type: ignore[attr-defined]


def _logged_tensor(value: object, **kwargs: object) -> torch.Tensor:
    """A tensor whose ``.to("cuda", ...)`` gives a plain tensor on the CPU."""
    del kwargs
    plain = value.detach().clone() if torch.is_tensor(value) else torch.tensor(value)
    carrier = plain.clone()
    carrier.to = lambda *args, **kwargs: plain  # type: ignore[method-assign]
    return carrier
