"""The only place that knows CPU from CUDA.

``install_cpu_backend`` makes Megatron-Core run without a GPU, ``ensure_model_parallel`` sets up its
process groups for a process that no trainer manages, ``require`` imports an optional package.
Elsewhere there is no ``if cpu``.
"""

from nemo_cosmos.platform.cpu_backend import install_cpu_backend
from nemo_cosmos.platform.dependencies import has, require
from nemo_cosmos.platform.device import (
    autocast,
    autocast_dtype,
    by_device,
    collective_backend,
    compute_capability,
    default_device,
    has_cuda,
    hide_gpus,
    in_worker_process,
    memory_bytes,
    one_thread,
    release_memory,
    seeded,
    upload,
)
from nemo_cosmos.platform.distributed import (
    divisors,
    ensure_model_parallel,
    on_first_process,
    shutdown_model_parallel,
)
from nemo_cosmos.platform.patches.float32 import set_float32_kernels
from nemo_cosmos.platform.ranks import is_first_process, is_rank, num_processes

__all__ = [
    "autocast",
    "autocast_dtype",
    "by_device",
    "collective_backend",
    "compute_capability",
    "default_device",
    "divisors",
    "ensure_model_parallel",
    "has",
    "has_cuda",
    "hide_gpus",
    "in_worker_process",
    "install_cpu_backend",
    "is_first_process",
    "is_rank",
    "memory_bytes",
    "num_processes",
    "on_first_process",
    "one_thread",
    "release_memory",
    "require",
    "seeded",
    "set_float32_kernels",
    "shutdown_model_parallel",
    "upload",
]
