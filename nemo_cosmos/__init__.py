"""Curate video, train Cosmos world foundation models and generate with them.

::

    import nemo_cosmos as nc

    nc.curate("raw", "shards")
    nc.tokenize("shards", "latents", tokenizer="tokenizer/export")
    nc.generate("world/export", "a robot arm lifts a red block").save("video.mp4")

``import nemo_cosmos`` itself costs nothing, so that commands answer at once: each name below loads
its room when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nemo_cosmos.api import (
        curate,
        evaluate,
        evaluate_tokenizer,
        evaluate_world,
        export_ckpt,
        extend,
        finetune,
        generate,
        import_ckpt,
        plan,
        predict,
        pretrain,
        tokenize,
    )
    from nemo_cosmos.guardrails import GuardPolicy
    from nemo_cosmos.inference import WorldPipeline
    from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
    from nemo_cosmos.video import Video

from nemo_cosmos.platform.patches.deferred import defer_imports
from nemo_cosmos.platform.quiet import quiet_imports

__version__ = "0.1.0"

# Before any room imports torch, Lightning, NeMo or Megatron-Core.
defer_imports()
quiet_imports()

#: Homes of the names below that are not verbs; the verbs are functions of ``nemo_cosmos.api``.
_HOMES = {
    "GuardPolicy": "nemo_cosmos.guardrails",
    "Video": "nemo_cosmos.video",
    "VideoTokenizer": "nemo_cosmos.models.tokenizer.tokenizer",
    "WorldPipeline": "nemo_cosmos.inference",
}

__all__ = [
    "GuardPolicy",
    "Video",
    "VideoTokenizer",
    "WorldPipeline",
    "curate",
    "evaluate",
    "evaluate_tokenizer",
    "evaluate_world",
    "export_ckpt",
    "extend",
    "finetune",
    "generate",
    "import_ckpt",
    "plan",
    "predict",
    "pretrain",
    "tokenize",
]


def __getattr__(name: str) -> object:
    """Load one of the names above."""
    if name not in __all__:
        raise AttributeError(f"module 'nemo_cosmos' has no attribute '{name}'")
    import importlib

    if name in _HOMES:  # the verbs see to it themselves when they are called
        importlib.import_module("nemo_cosmos.platform.quiet").quiet_libraries()
    return getattr(importlib.import_module(_HOMES.get(name, "nemo_cosmos.api")), name)


def __dir__() -> list[str]:
    """Return the names above, for completion."""
    return sorted([*__all__, "__version__"])
