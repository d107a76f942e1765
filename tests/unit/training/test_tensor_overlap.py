"""The buffers of Transformer Engine are allocated before training, and freed after it."""

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from megatron.core import num_microbatches_calculator as calculator

from nemo_cosmos.errors import MissingDependencyError
from nemo_cosmos.platform import ensure_model_parallel, has
from nemo_cosmos.training.callbacks.tensor_overlap import TensorOverlap
from nemo_cosmos.training.resilience.settings import Resilience
from nemo_cosmos.training.trainer import with_defaults

BASE = "transformer_engine.pytorch.module.base"


def model(tokens: int | None) -> Any:
    return SimpleNamespace(
        buffer_tokens=tokens, config=SimpleNamespace(hidden_size=64, fp8="hybrid")
    )


@pytest.fixture(autouse=True)
def two_samples() -> Any:
    ensure_model_parallel()
    calculator.destroy_num_microbatches_calculator()
    calculator.init_num_microbatches_calculator(0, None, 2, 2, 1)
    yield
    calculator.destroy_num_microbatches_calculator()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Calls to the library, which needs a GPU."""
    seen: list[tuple[str, dict[str, Any]]] = []
    parts = BASE.split(".")
    for length in range(1, len(parts) + 1):
        module = ModuleType(".".join(parts[:length]))
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, module.__name__, module)
        if length > 1:
            setattr(sys.modules[".".join(parts[: length - 1])], parts[length - 1], module)
    base: Any = sys.modules[BASE]
    base.initialize_ub = lambda **arguments: seen.append(("initialize", arguments))
    base.destroy_ub = lambda: seen.append(("destroy", {}))
    return seen


def test_every_run_allocates_what_its_model_asks_for(calls: list[Any]) -> None:
    (callback,) = (one for one in with_defaults([], Resilience()) if isinstance(one, TensorOverlap))
    callback.on_fit_start(SimpleNamespace(), model(128))
    callback.teardown(SimpleNamespace(), model(128), "fit")
    callback.teardown(SimpleNamespace(), model(128), "fit")
    arguments = {
        "shape": [256, 64], "tp_size": 1, "use_fp8": True, "bootstrap_backend": "nccl"
    }  # fmt: skip
    assert calls == [("initialize", arguments), ("destroy", {})]


def test_other_models_get_none(calls: list[Any]) -> None:
    callback = TensorOverlap()
    callback.on_fit_start(SimpleNamespace(), model(None))
    callback.teardown(SimpleNamespace(), model(None), "fit")
    assert calls == []


@pytest.mark.skipif(has("transformer_engine"), reason="Transformer Engine is installed")
def test_the_library_is_asked_for_by_name() -> None:
    with pytest.raises(MissingDependencyError, match=r"model\.config\.tp_comm_overlap"):
        TensorOverlap().on_fit_start(SimpleNamespace(), model(128))
