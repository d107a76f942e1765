"""The elementwise steps in the kernels that are compiled for a GPU, against their formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nemo_cosmos.models.common import fused
from nemo_cosmos.models.common.fused import REGIONS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    # torch's tracer itself instantiates the autograd function of rows.
    pytest.mark.filterwarnings(
        "ignore:.*autograd.function.Function.*instantiated:DeprecationWarning"
    ),
]
NUM_TOKENS, BATCH, HEADS, WIDTH, HEAD_DIM = 4096, 1, 8, 1024, 128


def arguments(name: str, rows: int, dtype: torch.dtype) -> list[Any]:
    """Arguments of a step; rows below zero are those of a pack."""
    torch.manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device="cuda", dtype=dtype).requires_grad_()

    heads = (NUM_TOKENS, BATCH, HEADS, HEAD_DIM)
    angles = torch.rand(NUM_TOKENS, 1, 1, HEAD_DIM // 2, device="cuda")
    tokens, update = (draw(NUM_TOKENS, BATCH, WIDTH) for _ in range(2))
    shift, scale, gate = (draw(abs(rows), BATCH, WIDTH) for _ in range(3))
    row_L = None
    if rows < 0:
        row_L = torch.arange(NUM_TOKENS, device="cuda") * -rows // NUM_TOKENS
    return {
        "rms_norm": [draw(*heads), draw(HEAD_DIM), 1e-6],
        "rotate": [draw(*heads), angles.cos(), angles.sin()],
        "modulate": [tokens, shift, scale, row_L],
        "place_and_modulate": [tokens, draw(NUM_TOKENS, 1, WIDTH), shift, scale, row_L],
        "add_gated": [tokens, gate, update, row_L],
        "add_gated_and_modulate": [tokens, gate, update, shift, scale, row_L],
    }[name]


def results(name: str, given: list[Any], mode: str) -> list[torch.Tensor]:
    found = REGIONS[name](*given, mode=mode)
    outputs = [found] if isinstance(found, torch.Tensor) else list(found)
    trained = [x for x in given if isinstance(x, torch.Tensor) and x.requires_grad]
    gradients = torch.autograd.grad([x.float().square().mean() for x in outputs], trained)
    return [*outputs, *gradients]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)], ids=str
)
@pytest.mark.parametrize("rows", [1, 16, -5])
@pytest.mark.parametrize("name", REGIONS)
def test_compiled_equals_the_formula(
    name: str, rows: int, dtype: torch.dtype, tolerance: float
) -> None:
    if fused.form("auto", torch.device("cuda")) != "compiled":
        pytest.skip("Triton or a C compiler is missing")
    given = arguments(name, rows, dtype)
    for got, right in zip(results(name, given, "auto"), results(name, given, "plain"), strict=True):
        assert got.dtype == right.dtype
        assert (got - right).float().norm() <= tolerance * right.float().norm()
