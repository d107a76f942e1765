"""Build diffusion transformers from Transformer Engine's real Python classes, without CUDA.

    python tests/unit/models/diffusion/engine/build_real.py WHEEL

prints a JSON object that says of each case what was built. Only what is compiled is replaced: the
extension module, Triton, ONNX, and the questions after the GPU and cuDNN. Constructors, names,
shapes, sharded keys and the loading of weights are the library's own. A process of its own, since
Megatron-Core decides at its import whether Transformer Engine is there.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import tempfile
import types
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch

HOPPER, BLACKWELL = (9, 0), (10, 0)
SIZES = {
    "num_layers": 3, "hidden_size": 256, "num_attention_heads": 2, "crossattn_emb_channels": 64,
    "adaln_lora_dim": 32, "max_frames": 8, "max_height": 16, "max_width": 16,
    "params_dtype": torch.bfloat16,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "float32": {"params_dtype": torch.float32},
    "tp": {"tp": 2},
    "tp_sp": {"tp": 2, "sequence_parallel": True},
    "tp_comm_overlap": {"tp": 2, "sequence_parallel": True, "tp_comm_overlap": True},
    "cp_p2p": {"cp": 2},
    "cp_a2a": {"cp": 2, "cp_comm_type": "a2a"},
    "tensorwise": {"fp8": "hybrid"},
    "delayed": {"fp8": "hybrid", "fp8_recipe": "delayed"},
    "blockwise": {"fp8": "hybrid", "fp8_recipe": "blockwise"},
    "mxfp8": {"fp8": "hybrid", "fp8_recipe": "mxfp8", "gpu": BLACKWELL},
    "fp8_attention": {"fp8": "hybrid", "fp8_recipe": "delayed", "fp8_dot_product_attention": True},
    "recompute_full": {
        "recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1,
    },
    "recompute_selective": {"recompute_granularity": "selective"},
    "gradient_accumulation_fusion": {"gradient_accumulation_fusion": True},
}  # fmt: skip
"""Settings that recipes and users give; ``tp``, ``cp`` and ``gpu`` are of the process."""


class Enum(type):
    """A compiled enumeration: each name is some number."""

    def __getattr__(cls, name: str) -> int:
        if name.startswith("__"):
            raise AttributeError(name)
        return sum(name.encode()) % 100


class Compiled(types.ModuleType):
    """The compiled extension: each name is a class that does nothing."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        value = Enum(name, (), {"__init__": lambda self, *args, **kwargs: None})
        setattr(self, name, value)
        return value


def import_engine(wheel: Path, folder: Path) -> None:
    """Import the wheel's ``transformer_engine.pytorch``."""
    zipfile.ZipFile(wheel).extractall(folder)
    os.environ["NVTE_PROJECT_BUILDING"] = "1"  # leaves the core library, of C++, unloaded
    sys.path.insert(0, str(folder))
    package = types.ModuleType("transformer_engine")
    package.__path__ = [str(folder / "transformer_engine")]
    package.__spec__ = ModuleSpec("transformer_engine", None, is_package=True)
    package.__version__ = wheel.name.split("-")[1]
    sys.modules["transformer_engine"] = package
    sys.modules["transformer_engine_torch"] = Compiled("transformer_engine_torch")
    triton = [
        f"transformer_engine.pytorch.triton{part}"
        for part in ("", ".pad", ".permutation", ".cross_entropy", ".mhc")
    ]
    for name in ("onnxscript", "onnxscript.onnx_types", *triton):
        sys.modules[name] = MagicMock()
    torch.cuda.get_device_capability = lambda *args, **kwargs: HOPPER
    common = importlib.import_module("transformer_engine.common")
    common.load_framework_extension = lambda framework: None
    importlib.import_module("transformer_engine.pytorch")
    # Its layers ask whether there is CUDA; Megatron-Core and ours must not be told so.
    base = importlib.import_module("transformer_engine.pytorch.module.base")
    base.torch, base.torch.cuda = (_copy_of(module) for module in (torch, torch.cuda))
    base.torch.cuda.is_available = lambda: True
    extensions = importlib.import_module("transformer_engine.pytorch.cpp_extensions")
    extensions.get_cudnn_version = lambda: 91800  # 9.18.0


def _copy_of(module: types.ModuleType) -> types.ModuleType:
    copied = types.ModuleType(module.__name__)
    copied.__dict__.update(vars(module))
    return copied


@contextmanager
def process_groups(tp: int, cp: int) -> Iterator[None]:
    """Be the first of ``tp * cp`` ranks, whose messages go nowhere."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from nemo_cosmos.platform import install_cpu_backend, shutdown_model_parallel

    install_cpu_backend()
    from megatron.core import parallel_state, tensor_parallel

    dist.init_process_group("fake", rank=0, world_size=tp * cp, store=FakeStore())
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=tp, context_parallel_size=cp, create_gloo_process_groups=False
    )
    tensor_parallel.model_parallel_cuda_manual_seed(1)
    try:
        yield
    finally:
        shutdown_model_parallel()


def build(case: dict[str, Any]) -> dict[str, Any]:
    """Build both layer specs, and say what the real classes made of the case."""
    from nemo_cosmos.models.common.megatron import fp8
    from nemo_cosmos.models.diffusion.network.config import DiTConfig
    from nemo_cosmos.models.diffusion.network.dit import DiT

    settings = {"tp": 1, "cp": 1, "gpu": HOPPER, **SIZES, **case}
    tp, cp, gpu = (settings.pop(name) for name in ("tp", "cp", "gpu"))
    fp8.compute_capability = lambda: gpu
    torch.cuda.get_device_capability = lambda *args, **kwargs: gpu
    with process_groups(tp, cp):
        layout = {"tensor_model_parallel_size": tp, "context_parallel_size": cp}
        config = DiTConfig(**settings, **layout, layer_spec="transformer_engine")
        engine = DiT(config)
        ours = ("fp8", "tp_comm_overlap", "gradient_accumulation_fusion")
        plain = {name: value for name, value in settings.items() if not name.startswith(ours)}
        local = DiT(DiTConfig(**plain, **layout, layer_spec="local"))
        missing = engine.load_state_dict(dict(local.named_parameters()))
        return {
            "parameters": {"engine": _parameters(engine), "local": _parameters(local)},
            "sharded": {"engine": _sharded(engine), "local": _sharded(local)},
            "unloaded": [*missing.missing_keys, *missing.unexpected_keys],
            "loaded": all(
                torch.equal(mine, theirs)
                for mine, theirs in zip(engine.parameters(), local.parameters(), strict=True)
            ),
            "modules": _modules(engine),
            "recipe": _recipe(config),
        }


def _parameters(network: torch.nn.Module) -> dict[str, Any]:
    """Shape, type and what Megatron reads of each parameter, by name."""
    return {
        name: [
            list(weight.shape),
            str(weight.dtype),
            bool(getattr(weight, "sequence_parallel", False)),
            bool(getattr(weight, "tensor_model_parallel", False)),
            getattr(weight, "partition_dim", -1),
        ]
        for name, weight in network.named_parameters()
    }


def _sharded(network: Any) -> dict[str, Any]:
    """Key and place of each entry of the sharded state, by name; scales apart."""
    return {
        name: [entry.key, list(entry.global_shape), list(entry.global_offset)]
        for name, entry in network.sharded_state_dict().items()
    }


def _modules(network: torch.nn.Module) -> dict[str, Any]:
    """What the layers' places hold: class, and the settings that our configuration decides."""
    layer = network.blocks.layers[1]
    names = (
        "fuse_wgrad_accumulation",
        "sequence_parallel",
        "ub_name",
        "parallel_mode",
        "cp_comm_type",
    )
    return {
        name: {
            "classes": [f"{c.__module__}.{c.__name__}" for c in type(module).__mro__],
            **{key: getattr(module, key) for key in names if hasattr(module, key)},
            "overlaps": any(
                v for k, v in vars(module).items() if k.startswith("ub_") and v is True
            ),
            "cp_ranks": len(getattr(module, "cp_global_ranks", None) or []),
        }
        for name, module in layer.named_modules()
        if name.rpartition(".")[2].startswith(("linear_", "core_attention", "q_lay", "k_lay"))
    }


def _recipe(config: Any) -> dict[str, Any] | None:
    """The real recipe that Megatron makes of the configuration's FP8."""
    from megatron.core.fp8_utils import get_fp8_recipe

    if not config.fp8:
        return None
    recipe = get_fp8_recipe(config)
    return {"class": type(recipe).__mro__[0].__name__, "attention": bool(recipe.fp8_dpa)}


def calls() -> dict[str, Any]:
    """What attention is called with, fitted to the real method, which no CPU can run."""
    from transformer_engine.pytorch import DotProductAttention

    from nemo_cosmos.models.common.packed import Boundaries
    from nemo_cosmos.models.diffusion.network.config import DiTConfig
    from nemo_cosmos.models.diffusion.network.dit import DiT

    signature = inspect.signature(DotProductAttention.forward)
    seen: list[dict[str, Any]] = []

    def forward(*args: Any, **kwargs: Any) -> torch.Tensor:
        given = signature.bind(*args, **kwargs).arguments
        seen.append({k: v for k, v in given.items() if isinstance(v, str | int | None)})
        return given["query_layer"].flatten(-2)

    DotProductAttention.forward = forward
    with process_groups(1, 1):
        layer = DiT(DiTConfig(**SIZES, layer_spec="transformer_engine")).blocks.layers[1]
        for attention in (layer.self_attention, layer.cross_attention):
            x = torch.zeros(8, 1, 2, 128)
            attention.core_attention(x, x, x)
            x = torch.zeros(8, 2, 128)
            packed = Boundaries.of((3, 5), (3, 5), torch.device("cpu"))
            attention.core_attention(x, x, x, packed_seq_params=packed)
    kept = ("qkv_format", "max_seqlen_q", "attn_mask_type")
    return {"attention": [[call.get(name) for name in kept] for call in seen]}


def main() -> None:
    """Build every case of a wheel, and print what became of each."""
    warnings.simplefilter("ignore")
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        import_engine(Path(sys.argv[1]), Path(folder))
        torch.set_default_dtype(torch.float32)
        for name, case in CASES.items():
            report[name] = build(case)
        report["calls"] = calls()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
