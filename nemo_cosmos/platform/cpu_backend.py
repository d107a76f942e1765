"""The Megatron CPU backend: what makes Megatron-Core run unmodified on a machine without a GPU."""

from __future__ import annotations

from nemo_cosmos.platform.device import has_cuda
from nemo_cosmos.platform.patches.float32 import set_float32_kernels

_installed = False


def install_cpu_backend() -> bool:
    """Make Megatron-Core usable on this CPU; where CUDA is available, only choose its precision.

    Call it before the first Megatron module is built (:func:`ensure_model_parallel
    <nemo_cosmos.platform.distributed.ensure_model_parallel>` does). Calling it again is free.
    A training step pays nothing for it: see :mod:`nemo_cosmos.platform.patches.megatron`.

    Returns:
        Whether the backend is in place: ``False`` on a machine with CUDA.
    """
    global _installed
    set_float32_kernels()
    if has_cuda():
        return False
    if not _installed:
        from nemo_cosmos.platform.patches.cuda_stubs import patch_torch_cuda
        from nemo_cosmos.platform.patches.megatron import patch_megatron

        patch_torch_cuda()
        patch_megatron()
        _installed = True
    return True
