"""Every elementwise step: its written and its compiled form against its formula."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common import fused
from nemo_cosmos.models.common.fused import REGIONS
from nemo_cosmos.models.common.fused.formulas import take_rows
from nemo_cosmos.models.common.fused.region import any_length
from nemo_cosmos.platform import kernel_choice

NUM_TOKENS, BATCH, HEADS, WIDTH, HEAD_DIM = 24, 2, 3, 32, 8
MODULATED = ("modulate", "place_and_modulate", "add_gated", "add_gated_and_modulate")
CASES = [("rms_norm", 0), ("rotate", 0)] + [
    (name, rows) for name in MODULATED for rows in (1, 4, -3)
]
"""Steps, and rows of their modulations; below zero, that many for the samples of a pack."""
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


def arguments(name: str, rows: int, dtype: torch.dtype, length: int = NUM_TOKENS) -> list[Any]:
    """Arguments of a step, those that are trained with gradients."""
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype).requires_grad_()

    if name == "rms_norm":
        return [draw(length, BATCH, HEADS, HEAD_DIM), draw(HEAD_DIM), 1e-6]
    if name == "rotate":
        angles = torch.rand(length, 1, 1, HEAD_DIM // 2, generator=generator)
        return [draw(length, BATCH, HEADS, HEAD_DIM), angles.cos(), angles.sin()]
    tokens = [draw(length, BATCH, WIDTH) for _ in range(2)]
    shift, scale, gate = (draw(abs(rows), BATCH, WIDTH) for _ in range(3))
    row_L = None
    if rows < 0:  # runs of unequal length
        row_L = torch.arange(-rows).repeat_interleave(torch.tensor([1, length - 6, 5]))
    given = {
        "modulate": [tokens[0], shift, scale],
        "place_and_modulate": [tokens[0], draw(length, 1, WIDTH), shift, scale],
        "add_gated": [tokens[0], gate, tokens[1]],
        "add_gated_and_modulate": [tokens[0], gate, tokens[1], shift, scale],
    }[name]
    return [*given, row_L]


def results(call: Callable[..., Any], given: list[Any]) -> list[torch.Tensor]:
    """What a form gives, and the gradients of a weighted sum of it."""
    found = call(*given)
    outputs = [found] if isinstance(found, torch.Tensor) else list(found)
    trained = [x for x in given if isinstance(x, torch.Tensor) and x.requires_grad]
    weights = [torch.linspace(-1, 2, x.numel()).reshape(x.shape) for x in outputs]
    loss = sum((x.float() * w).sum() for x, w in zip(outputs, weights, strict=True))
    return outputs + list(torch.autograd.grad(loss, trained))  # type: ignore[arg-type]


def assert_equal(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    for got, right in zip(found, expected, strict=True):
        assert got.dtype == right.dtype and got.shape == right.shape
        assert (got - right).float().norm() <= tolerance * right.float().norm()


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> Iterator[None]:
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("name", "rows"), CASES)
def test_written_gradients_are_the_formulas(name: str, rows: int, dtype: torch.dtype) -> None:
    step = REGIONS[name]
    given = arguments(name, rows, dtype)
    expected = results(step.formula, given)
    assert_equal(results(step, given), expected, TOLERANCE[dtype])
    plain = results(lambda *each: step(*each, mode="plain"), given)
    assert_equal(plain, expected, 0)


# torch's tracer itself instantiates the autograd function of rows.
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", REGIONS)
def test_a_formula_compiles_whole_and_once_for_all_lengths(name: str) -> None:
    """The graph that is compiled on CUDA, forward and backward, run by torch."""
    graphs = []

    def count(graph: torch.fx.GraphModule, example: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return torch._dynamo.backends.registry.lookup_backend("aot_eager")(graph, example)

    step = REGIONS[name]
    compiled = step.compiled_by(count)
    rows = -3 if name in MODULATED else 0
    for length in (NUM_TOKENS, 2 * NUM_TOKENS):
        given = arguments(name, rows, torch.bfloat16, length)
        found = results(lambda *each: compiled(*any_length(*each)), given)
        assert_equal(found, results(step.formula, given), TOLERANCE[torch.bfloat16])
    assert len(graphs) == 1


def test_every_kind_of_tensor_is_compiled() -> None:
    """Torch gives up a function after eight graphs, and computes the formula instead."""
    num_graphs = 0

    def count(graph: torch.fx.GraphModule, example: list[torch.Tensor]) -> Callable[..., Any]:
        nonlocal num_graphs
        num_graphs += 1
        return graph.forward

    compiled = fused.rms_norm.compiled_by(count)
    kinds = [
        (rank, dtype, trained)
        for rank in range(2, 5)
        for dtype in TOLERANCE
        for trained in (False, True)
    ]
    for rank, dtype, trained in kinds:
        x = torch.ones([2] * (rank - 1) + [HEAD_DIM], dtype=dtype, requires_grad=trained)
        compiled(x, torch.ones(HEAD_DIM), 1e-6)
    assert num_graphs == len(kinds) == 12


@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles for a CPU with g++")
@pytest.mark.skipif(" " in torch.__file__, reason="torch's own call of g++ quotes no path")
def test_a_compiled_step_keeps_its_inputs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled for this CPU by the compiler that makes the kernels of a GPU."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    step = fused.add_gated_and_modulate
    given = arguments("add_gated_and_modulate", 1, torch.bfloat16)
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def compiled(*each: Any) -> Any:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            return step.compiled(*each)

    found = results(compiled, given)
    assert_equal(found, results(step.formula, given), TOLERANCE[torch.bfloat16])
    wide = [x for x in kept.values() if x.numel() == NUM_TOKENS * BATCH * WIDTH]
    assert len(wide) == 2, "the update, and the tokens that are normalised"
    assert {x.dtype for x in wide} == {torch.bfloat16}


def test_gradients_of_rows_are_sums_over_their_tokens() -> None:
    table = torch.randn(3, 1, 4, dtype=torch.float64, requires_grad=True)
    row_L = torch.tensor([0, 0, 2, 1, 0])
    assert torch.autograd.gradcheck(lambda x: take_rows(x, row_L), (table,))


def test_the_form_follows_device_and_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert fused.form("auto", cpu) == "written"
    assert fused.form("plain", cuda) == "plain"
    kernel_choice.compiles.cache_clear()
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert fused.form("auto", cuda) == "written", "without a compiler"
    kernel_choice.compiles.cache_clear()
    with pytest.raises(ConfigError, match=r"fused=.fast. is unknown\. Use .auto."):
        fused.check_mode("fast")
