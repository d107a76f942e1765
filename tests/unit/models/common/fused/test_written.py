"""Steps with written-out gradients against their plain formulas."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nemo_cosmos.models.common.fused.written import layer_norm_by_row, rms_norm, rotate


def test_rms_norm_gradients_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-3), (x, weight))
    expected = F.rms_norm(x, (6,), weight, 1e-3)
    torch.testing.assert_close(rms_norm(x, weight, 1e-3), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
def test_rms_norm_in_the_types_of_training(dtype: torch.dtype, tolerance: float) -> None:
    """Also of a part of a wider tensor, as queries are of a fused projection."""
    torch.manual_seed(0)
    x = torch.randn(50, 1, 3, 32).to(dtype)[..., :16].requires_grad_()
    weight = torch.randn(16).to(dtype).requires_grad_()
    g = torch.randn(x.shape).to(dtype)
    out = rms_norm(x, weight, 1e-6)
    found = (out, *torch.autograd.grad(out, (x, weight), g))
    wide = (x.double(), weight.double())
    expected_out = F.rms_norm(wide[0], (16,), wide[1], 1e-6)
    expected = (expected_out, *torch.autograd.grad(expected_out, wide, g.double()))
    for got, right in zip(found, expected, strict=True):
        assert got.dtype == dtype
        assert (got.double() - right).norm() <= tolerance * right.norm()


def test_a_row_of_zeros() -> None:
    x = torch.zeros(2, 8, requires_grad=True)
    rms_norm(x, torch.ones(8), 1e-6).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_without_gradients_are_the_same_to_the_bit(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 2, 3, 32).to(dtype)[..., :16].requires_grad_()
    weight, (cos, sin) = torch.randn(16).to(dtype), torch.randn(2, 5, 2, 1, 8)
    for step in (lambda: rms_norm(x, weight, 1e-6), lambda: rotate(x, cos, sin)):
        with torch.no_grad():
            plain = step()
        trained = step()
        assert trained.requires_grad
        assert not plain.requires_grad
        assert torch.equal(plain, trained)


@pytest.mark.parametrize(("num_rows", "batch"), [(1, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layer_norm_by_row(num_rows: int, batch: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randn(6, batch, 8, generator=generator, dtype=dtype) for _ in range(2))
    weight, bias = torch.randn(2, num_rows, batch, 8, generator=generator, dtype=dtype)
    given = [each.requires_grad_() for each in (x, weight, bias)]
    out = layer_norm_by_row(*given, eps=1e-3)
    runs = F.layer_norm(x, (8,), eps=1e-3).unflatten(0, (num_rows, -1))
    expected = (runs * weight[:, None] + bias[:, None]).flatten(0, 1)
    torch.testing.assert_close(out, expected)
    for got, right in zip(
        torch.autograd.grad(out, given, g), torch.autograd.grad(expected, given, g), strict=True
    ):
        torch.testing.assert_close(got, right)


def test_gradients_of_one_bfloat16_row_are_not_summed_in_bfloat16() -> None:
    torch.manual_seed(0)
    x, g = torch.randn(2, 1024, 1, 64).bfloat16()
    weight, bias = (x.requires_grad_() for x in torch.randn(2, 1, 1, 64).bfloat16())
    found = torch.autograd.grad(layer_norm_by_row(x, weight, bias, 1e-6), (weight, bias), g)
    normed = F.layer_norm(x.double(), (64,), eps=1e-6)
    for got, right in zip(found, ((g * normed).sum(0), g.double().sum(0)), strict=True):
        assert (got.double() - right).norm() <= 5e-3 * right.norm()
