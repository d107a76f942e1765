"""Requests, the guarded pipeline that fulfils them, and pools of loaded worlds.

The names are imported when they are first used: a request needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nemo_cosmos.inference.options import GenerationOptions
    from nemo_cosmos.inference.pipeline import WorldPipeline
    from nemo_cosmos.inference.pool import WorldPool, default_pool
    from nemo_cosmos.inference.request import Request
    from nemo_cosmos.inference.result import Result, check_output

__all__ = [
    "GenerationOptions",
    "Request",
    "Result",
    "WorldPipeline",
    "WorldPool",
    "check_output",
    "default_pool",
]

_HOMES = {
    "GenerationOptions": "options",
    "Request": "request",
    "Result": "result",
    "WorldPipeline": "pipeline",
    "WorldPool": "pool",
    "check_output": "result",
    "default_pool": "pool",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
