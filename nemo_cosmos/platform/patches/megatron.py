"""The changes that Megatron-Core 0.16 needs to run on a CPU, place by place.

Three kinds of change, none of which costs anything inside a forward or backward pass:

- modules that create small tensors with ``device="cuda"`` get a ``torch`` namespace in which that
  means the CPU (:class:`CpuTorch`); nothing is intercepted per operation,
- the optimisers, which compare ``tensor.type()`` with ``"torch.cuda.FloatTensor"``, are *built*
  under a torch-function mode (:class:`CudaTypeNames`) that reports it; it ends when they are built,
- single functions that only exist as CUDA code are replaced.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from nemo_cosmos.platform import kernels
from nemo_cosmos.platform.patches.cuda_stubs import CPU
from nemo_cosmos.platform.patches.deferred import unfused
from nemo_cosmos.platform.patches.fused_adam import use_fused_adam

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

# Modules with ``device="cuda"`` literals that run while training or saving.
_MODULES_WITH_CUDA_LITERALS = (
    "megatron.core.distributed.param_and_grad_buffer",
    "megatron.core.dist_checkpointing.exchange_utils",
    "megatron.core.dist_checkpointing.mapping",
    "megatron.core.dist_checkpointing.strategies.state_dict_saver",
    "megatron.core.optimizer.clip_grads",
    "megatron.core.optimizer.distrib_optimizer",
    "megatron.core.optimizer.grad_scaler",
    "megatron.core.optimizer.optimizer",
    "megatron.core.pipeline_parallel.combined_1f1b",
    "megatron.core.pipeline_parallel.schedules",
    "megatron.core.rerun_state_machine",
    "megatron.core.tensor_parallel.data",
    "megatron.core.utils",
)
# What makes a parallel linear layer more than a linear layer.
_LINEAR_OPTIONS = (
    "allreduce_dgrad",
    "gradient_accumulation_fusion",
    "grad_output_buffer",
    "sequence_parallel",
)
_FACTORIES = ("arange", "empty", "empty_like", "full", "ones", "tensor", "zeros", "zeros_like")


def on_cpu(device: object) -> object:
    """Return the CPU for anything that names a CUDA device, else ``device`` unchanged."""
    return CPU if str(device).startswith("cuda") else device


class CpuTorch(ModuleType):
    """The ``torch`` namespace, except that ``device="cuda"`` means the CPU.

    Tensor factories drop ``pin_memory``, and ``autocast("cuda")`` casts on the CPU. Every other
    name is torch's own.
    """

    tensor: Callable[..., torch.Tensor]

    def __init__(self) -> None:
        super().__init__("torch")
        self.__dict__.update(vars(torch))
        for name in _FACTORIES:
            setattr(self, name, _factory_on_cpu(getattr(torch, name)))
        self.autocast = _autocast_on_cpu

    def __getattr__(self, name: str) -> object:  # names that torch itself loads on demand
        return getattr(torch, name)


def _factory_on_cpu(factory: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(factory)
    def create(*args: object, **kwargs: object) -> torch.Tensor:
        kwargs.pop("pin_memory", None)
        if "device" in kwargs:
            kwargs["device"] = on_cpu(kwargs["device"])
        return factory(*args, **kwargs)

    return create


def _autocast_on_cpu(device_type: str, *args: Any, **kwargs: Any) -> torch.autocast:
    return torch.autocast("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


class CudaTypeNames(TorchFunctionMode):
    """While entered, ``tensor.type()`` of a CPU tensor answers with the CUDA type's name."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        """Answer ``tensor.type()``; let everything else pass."""
        result = func(*args, **(kwargs or {}))
        if func is torch.Tensor.type and isinstance(result, str):
            return result.replace("torch.", "torch.cuda.", 1)
        return result


def patch_megatron() -> None:
    """Apply every patch. Imports Megatron-Core."""
    _use_cpu_torch()
    _patch_sharded_tensors()
    _patch_random_states()
    _patch_linear_autocast()
    _use_plain_linear_alone()
    _patch_optimizers()
    _patch_fsdp()
    _undo_jit()


def _use_cpu_torch() -> None:
    cpu_torch = CpuTorch()
    for name in _MODULES_WITH_CUDA_LITERALS:
        importlib.import_module(name).torch = cpu_torch  # type: ignore[attr-defined]


def _patch_sharded_tensors() -> None:
    """Make the tensors that processes read for each other on the CPU."""
    from megatron.core.dist_checkpointing.mapping import ShardedTensor

    init_data = ShardedTensor.init_data

    def init_on_cpu(self: object, device: object, *args: object, **kwargs: object) -> None:
        init_data(self, on_cpu(device), *args, **kwargs)

    ShardedTensor.init_data = init_on_cpu


def _patch_random_states() -> None:
    """Megatron's tracker forks and restores the CPU generator: it is the only one."""
    from megatron.core.tensor_parallel import random

    def get_state(
        device: object = "cuda", clone: bool = False, graph_safe: bool = False
    ) -> torch.Tensor:
        del device, clone, graph_safe
        return torch.get_rng_state()

    def set_state(new_state: torch.Tensor, device: object = -1, graph_safe: bool = False) -> None:
        del device, graph_safe
        torch.set_rng_state(new_state)

    random._get_cuda_rng_state = get_state
    random._set_cuda_rng_state = set_state


def _patch_linear_autocast() -> None:
    """Let the backward pass of parallel linear layers follow CPU autocast, as it does CUDA's."""
    from megatron.core.tensor_parallel import layers

    for function in (
        layers.LinearWithFrozenWeight,
        layers.LinearWithGradAccumulationAndAsyncCommunication,
    ):
        forward = torch.amp.custom_fwd(function.forward.__wrapped__, device_type="cpu")
        backward = torch.amp.custom_bwd(function.backward.__wrapped__, device_type="cpu")
        function.forward, function.backward = staticmethod(forward), staticmethod(backward)


def _use_plain_linear_alone() -> None:
    """Where a rank has no tensor-parallel partner, compute its linear layers without Megatron.

    Megatron's layers go through autograd functions in Python that communicate, or would. At nano
    size on a CPU these cost several per cent of a step; alone, there is nothing for them to do.
    """
    from megatron.core.tensor_parallel import layers

    # A frozen weight, such as that of a world that is loaded to be used, has a function of its own.
    for name in ("linear_with_grad_accumulation_and_async_allreduce", "linear_with_frozen_weight"):
        setattr(layers, name, _plain_alone(getattr(layers, name)))
    for name in (
        "copy_to_tensor_model_parallel_region",
        "reduce_from_tensor_model_parallel_region",
    ):
        setattr(layers, name, _identity_alone(getattr(layers, name)))


def _plain_alone(parallel_linear: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(parallel_linear)
    def linear(input: torch.Tensor, weight: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        for name in _LINEAR_OPTIONS:  # a generator would cost a decoder's step a hundredth
            if kwargs.get(name):
                return parallel_linear(input, weight, **kwargs)
        return kernels.linear(input, weight, kwargs.get("bias"))

    return linear


def _identity_alone(mapping: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(mapping)
    def map_region(
        input_: torch.Tensor, group: torch.distributed.ProcessGroup | None = None
    ) -> torch.Tensor:
        alone = group is not None and group.size() == 1
        return input_ if alone else mapping(input_, group=group)

    return map_region


def _patch_optimizers() -> None:
    from megatron.core.optimizer import clip_grads, distrib_optimizer, optimizer

    use_fused_adam()
    for cls in (
        distrib_optimizer.DistributedOptimizer,
        optimizer.Float16OptimizerWithFloat16Params,
    ):
        cls.__init__ = _under_cuda_type_names(cls.__init__)
    clip_grads.clip_grad_by_total_norm_fp32 = clip_grad_by_total_norm
    optimizer.clip_grad_by_total_norm_fp32 = clip_grad_by_total_norm


def _under_cuda_type_names(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def build(*args: object, **kwargs: object) -> None:
        with CudaTypeNames():
            init(*args, **kwargs)

    return build


def clip_grad_by_total_norm(
    parameters: torch.Tensor | Iterable[torch.Tensor],
    max_norm: float,
    total_norm: float,
    use_decoupled_grad: bool = False,
) -> None:
    """Scale gradients in place so that their norm is at most ``max_norm``.

    Megatron's own function insists on CUDA tensors.

    Args:
        parameters: a parameter or an iterable of them.
        max_norm: largest norm allowed.
        total_norm: the norm they have, over all processes.
        use_decoupled_grad: scale ``param.decoupled_grad`` instead of ``param.grad``.
    """
    if isinstance(parameters, torch.Tensor):
        parameters = [parameters]
    name = "decoupled_grad" if use_decoupled_grad else "grad"
    grads = [grad.detach() for p in parameters if (grad := getattr(p, name, None)) is not None]
    coefficient = max_norm / (total_norm + 1.0e-6)
    if grads and coefficient < 1.0:
        torch._foreach_mul_(grads, coefficient)


def _patch_fsdp() -> None:
    """Let Megatron-FSDP keep its buffers on the CPU and name the CPU in its device meshes."""
    from megatron.core.distributed.fsdp import mcore_fsdp_adapter
    from megatron.core.distributed.fsdp.src.megatron_fsdp import megatron_fsdp

    mesh: type[DeviceMesh] = mcore_fsdp_adapter.DeviceMesh
    cpu_torch: Any = CpuTorch()
    cpu_torch.device = on_cpu
    mcore_fsdp_adapter.torch = megatron_fsdp.torch = cpu_torch

    class CpuMesh:
        """Makes meshes of the CPU, whatever device is asked for."""

        @staticmethod
        def from_group(
            group: torch.distributed.ProcessGroup, device_type: str, **kwargs: Any
        ) -> DeviceMesh:
            del device_type
            return mesh.from_group(group, "cpu", **kwargs)

    mcore_fsdp_adapter.DeviceMesh = CpuMesh


def _undo_jit() -> None:
    """Give Megatron's small fused kernels back as plain functions.

    They are wrapped in ``torch.compile`` for the GPU; on a CPU that would start a C++ compiler in
    the first step. Our own use of ``torch.compile`` is left alone.
    """
    from megatron.core import jit

    jit.disable_jit_fuser()  # for modules that are imported from now on
    for name, module in list(sys.modules.items()):
        if not name.startswith("megatron.core."):
            continue
        for attribute, value in list(vars(module).items()):
            if not inspect.isfunction(value):
                continue
            original = unfused(value) or getattr(value, "_torchdynamo_orig_callable", None)
            if original is not None:
                setattr(module, attribute, original)
