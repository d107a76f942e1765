"""What this machine is: its device, the kernels chosen for it and the libraries' versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import torch

from nemo_cosmos.cache import cache_dir
from nemo_cosmos.platform import kernel_choice, kernels
from nemo_cosmos.platform.device import has_cuda, memory_bytes

LIBRARIES = (
    "torch",
    "nemo-toolkit",
    "megatron-core",
    "lightning",
    "transformer-engine",
    "transformers",
    "numpy",
    "av",
)
"""Distributions whose versions change what a run computes."""


def describe_machine() -> dict[str, Any]:
    """Describe this machine; the kernels are measured unless they were before."""
    setting = kernel_choice.setting()
    timings = kernels.measured() if setting == kernel_choice.MEASURED else {}
    return {
        "device": torch.cuda.get_device_name() if has_cuda() else "CPU",
        "processor": kernel_choice.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
        "cache": str(cache_dir()),
        "kernels": {
            "setting": setting,
            "elementwise": "compiled" if has_cuda() and kernel_choice.compiles() else "written",
            "problems": {
                name: {**timing._asdict(), "library": timing.library}
                for name, timing in timings.items()
            },
        },
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
