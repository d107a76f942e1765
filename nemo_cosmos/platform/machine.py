"""What this machine is: its device, what works on it, its kernels and the libraries' versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable
from typing import Any

from nemo_cosmos.cache import cache_dir
from nemo_cosmos.platform.accelerator.facts import Facts, read_facts
from nemo_cosmos.platform.accelerator.findings import findings

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


def describe_machine(
    encodes: Callable[[], bool] | None = None, facts: Facts | None = None
) -> dict[str, Any]:
    """Describe this machine; the kernels are measured unless they were before.

    Args:
        encodes: returns whether the GPU encodes video.
        facts: what is found of GPUs, driver and packages; by default this machine's.
    """
    facts = facts if facts is not None else read_facts(encodes)
    return {
        "device": facts.gpus[0].name if facts.gpus else "CPU",
        "cores": os.cpu_count(),
        **(_computing() if facts.torch else {}),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
        "gpu": {
            "driver": facts.driver or None,
            "cuda": facts.torch_cuda or None,
            "cudnn": facts.cudnn or None,
            "nccl": facts.nccl or None,
            "gpus": [gpu._asdict() for gpu in facts.gpus],
            "installed": list(facts.installed),
        },
        "cache": str(cache_dir()),
        "findings": [finding._asdict() for finding in findings(facts)],
    }


def _computing() -> dict[str, Any]:
    """What torch says of this machine, whether it computes right, and the chosen kernels."""
    import torch

    from nemo_cosmos.platform import kernel_choice, kernels
    from nemo_cosmos.platform.accelerator.self_check import check_kernels
    from nemo_cosmos.platform.device import has_cuda, memory_bytes

    setting = kernel_choice.setting()
    wrong = [check.text for check in check_kernels() if not check.works]
    timings = kernels.measured() if setting == kernel_choice.MEASURED else {}
    return {
        "processor": kernel_choice.processor(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "numbers": "; ".join(wrong) or "right",
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
