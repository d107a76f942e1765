"""The ``transformer_engine`` layer spec, built from Transformer Engine's real Python classes.

What they compute needs a GPU (``tests/gpu``); ``test_transformer_engine.py`` beside this folder
tests how the network runs, with classes that compute on a CPU.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
REPOSITORY = Path(__file__).parents[5]
INSTALLED = Path(sys.prefix) / "sources"
"""Where ``make install`` puts the wheels."""


def load(name: str) -> ModuleType:
    """Import a script of this folder, for what it says; nothing is built by that."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


source = load("source")
CASES = load("build_real").CASES
LINEAR = {
    "linear_qkv": "column", "linear_q": "column", "linear_kv": "column", "linear_fc1": "column",
    "linear_proj": "row", "linear_fc2": "row",
}  # fmt: skip


@pytest.fixture(scope="session", params=source.WHEELS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one version's classes made of each case; built in a process of its own."""
    version = request.param
    wheel = INSTALLED / source.wheel_of(version)
    if not wheel.exists():
        try:
            wheel = source.download(version, tmp_path_factory.mktemp("wheels"))
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            reason = (error.stderr or "no answer in time").strip().splitlines()[-1]
            pytest.skip(f"Transformer Engine {version} cannot be downloaded: {reason}")
    made = subprocess.run(
        [sys.executable, str(HERE / "build_real.py"), str(wheel)],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-4000:]
    return json.loads(made.stdout.splitlines()[-1])


def linears(case: dict[str, Any]) -> dict[str, Any]:
    """What is built at each place of a linear map, by the place's name."""
    found = {name: module for name, module in case["modules"].items() if "adaln" not in name}
    return {n: m for n, m in found.items() if n.rpartition(".")[2] in LINEAR}


@pytest.mark.parametrize("name", CASES)
def test_weights_are_those_of_the_local_spec(built: Any, name: str) -> None:
    """Names, shapes, types, what Megatron reads of them, and their places in a checkpoint."""
    case = built[name]
    assert case["parameters"]["engine"] == case["parameters"]["local"]
    assert case["unloaded"] == [] and case["loaded"], "takes the local spec's weights"
    scales = {key for key in case["sharded"]["engine"] if key.endswith("_extra_state")}
    assert bool(scales) == (CASES[name].get("fp8_recipe") == "delayed")
    engine = {k: v for k, v in case["sharded"]["engine"].items() if k not in scales}
    assert engine == case["sharded"]["local"]


@pytest.mark.parametrize("name", CASES)
def test_each_place_has_the_real_class(built: Any, name: str) -> None:
    modules = built[name]["modules"]
    wanted = {
        "linear": "transformer_engine.pytorch.module.linear.Linear",
        "core_attention": "DotProductAttention",
        "layernorm": "transformer_engine.pytorch.module.rmsnorm.RMSNorm",
    }
    for place, module in modules.items():
        kind = place.rpartition(".")[2]
        if "adaln" in place:
            continue
        end = next(end for word, end in wanted.items() if word in kind)
        assert any(each.endswith(end) for each in module["classes"]), place
    spread = CASES[name].get("sequence_parallel", False)
    fused = CASES[name].get("gradient_accumulation_fusion", False)
    for place, module in linears(built[name]).items():
        assert module["parallel_mode"] == LINEAR[place.rpartition(".")[2]]
        assert module["sequence_parallel"] == spread, place
        assert module["fuse_wgrad_accumulation"] == fused, place


def test_communication_overlaps_where_the_buffers_fit(built: Any) -> None:
    """A buffer has the shape of the tokens; the context's keys and values go without."""
    found = linears(built["tp_comm_overlap"])
    names = {place.rpartition(".")[2]: module["ub_name"] for place, module in found.items()}
    assert names == {
        "linear_qkv": "qkv", "linear_q": "qkv", "linear_kv": None, "linear_proj": "proj",
        "linear_fc1": "fc1", "linear_fc2": "fc2",
    }  # fmt: skip
    for place, module in found.items():
        assert module["overlaps"] == (not place.endswith("linear_kv"))
    assert not any(module["overlaps"] for module in linears(built["tp_sp"]).values())


@pytest.mark.parametrize(("name", "kind"), [("cp_p2p", "p2p"), ("cp_a2a", "a2a")])
def test_tokens_alone_are_spread_over_context_parallel_ranks(
    built: Any, name: str, kind: str
) -> None:
    modules = built[name]["modules"]
    tokens, context = (modules[f"{which}_attention.core_attention"] for which in ("self", "cross"))
    assert (tokens["cp_comm_type"], tokens["cp_ranks"], context["cp_ranks"]) == (kind, 2, 0)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("tensorwise", "Float8CurrentScaling"), ("delayed", "TEDelayedScaling"),
        ("blockwise", "Float8BlockScaling"), ("mxfp8", "MXFP8BlockScaling"),
        ("fp8_attention", "TEDelayedScaling"),
    ],
)  # fmt: skip
def test_fp8_is_the_librarys_recipe(built: Any, name: str, recipe: str) -> None:
    attention = name == "fp8_attention"
    assert built[name]["recipe"] == {"class": recipe, "attention": attention}


def test_attention_is_called_with_what_it_takes(built: Any) -> None:
    """In both attentions of a layer: samples of one length, then packs of samples."""
    whole, packed = [None, None, "no_mask"], ["thd", 5, "padding"]
    assert built["calls"]["attention"] == [whole, packed, whole, packed]
