"""The platform's products and attention against float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from nemo_cosmos.platform import kernels

Tensors = tuple[torch.Tensor, ...]


def attended(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    seen: torch.Tensor | None = None,
) -> Tensors:
    """Output and gradients of plain attention in float64."""
    q, k, v = (x.detach().double().requires_grad_() for x in (q, k, v))
    keys, values = (x.repeat_interleave(q.shape[2] // k.shape[2], dim=2) for x in (k, v))
    scores = torch.einsum("lbhd,mbhd->bhlm", q * q.shape[-1] ** -0.5, keys)
    if seen is not None:
        scores = scores.masked_fill(~seen, float("-inf"))
    out = torch.einsum("bhlm,mbhd->lbhd", scores.softmax(-1), values)
    return (out, *torch.autograd.grad(out, (q, k, v), g.double()))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize("length", [300, 700])  # the second in several blocks
def test_attention_and_its_gradients(
    dtype: torch.dtype, tolerance: float, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queries and keys with gaps between their rows, as they come out of one fused projection."""
    monkeypatch.setattr(F, "scaled_dot_product_attention", None)  # must not be needed
    monkeypatch.setattr(kernels, "_onednn_is_faster", lambda _: True)
    generator = torch.Generator().manual_seed(0)
    fused = torch.randn(length, 2, 2, 3 * 16, generator=generator).to(dtype)
    q, k, _ = (part.requires_grad_() for part in fused.chunk(3, dim=-1))
    k = k[:500].detach().requires_grad_()
    v = torch.randn(k.shape, generator=generator).to(dtype).requires_grad_()
    g = torch.randn(q.shape, generator=generator).to(dtype)
    out = kernels.attention(q, k, v)
    found = (out, *torch.autograd.grad(out, (q, k, v), g))
    for got, expected in zip(found, attended(q, k, v, g), strict=True):
        assert got.dtype == dtype
        assert (got.double() - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("kind", ["triangle", "window", "last queries", "by sample"])
def test_queries_see_the_keys_of_their_range_alone(
    kind: str, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With grouped heads, in several blocks; kernels that cannot do it are not asked."""
    monkeypatch.setattr(kernels, "_onednn_is_faster", lambda _: onednn)
    monkeypatch.setattr(kernels, "_BLOCK_SCORES", 2**14)
    num_queries, num_keys = (300, 500) if kind == "last queries" else (400, 400)
    end = torch.arange(num_queries) + 1 + num_keys - num_queries
    first = (end - 70).clamp(min=0) if kind == "window" else end * 0
    if kind == "by sample":  # the second sample's keys end earlier
        first, end = torch.stack([first, first]), torch.stack([end, (end - 90).clamp(min=1)])
    ranges = kernels.KeyRanges(first, end, is_triangle=kind == "triangle")
    generator = torch.Generator().manual_seed(0)
    q, k, v, g = (
        torch.randn(length, 2, heads, 16, generator=generator).requires_grad_()
        for length, heads in ((num_queries, 4), (num_keys, 2), (num_keys, 2), (num_queries, 4))
    )
    out = kernels.attention(q, k, v, key_ranges=ranges)
    found = (out, *torch.autograd.grad(out, (q, k, v), g))
    expected = attended(q, k, v, g, ranges.mask(num_keys))
    for got, right in zip(found, expected, strict=True):
        assert (got.double() - right).norm() <= 2e-6 * right.norm()


@pytest.mark.parametrize("kind", ["all", "last queries", "by sample"])
@pytest.mark.parametrize("num_queries", [1, 3])
def test_few_queries_read_the_keys_of_their_group_once(
    num_queries: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_keys = kernels._MANY_KEY_VALUES // 16
    generator = torch.Generator().manual_seed(0)
    q, k, v, g = (
        torch.randn(length, 2, heads, 16, generator=generator).requires_grad_()
        for length, heads in ((num_queries, 6), (num_keys, 2), (num_keys, 2), (num_queries, 6))
    )
    end = torch.arange(num_queries) + 1 + num_keys - num_queries
    if kind == "by sample":
        end = torch.stack([end, end - 90])
    ranges = None if kind == "all" else kernels.KeyRanges(end * 0, end)
    shapes, torchs = [], F.scaled_dot_product_attention

    def spied(*args: torch.Tensor, **options: Any) -> torch.Tensor:
        shapes.append([tuple(x.shape[1:3]) for x in args])
        return torchs(*args, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spied)
    out = kernels.attention(q, k, v, key_ranges=ranges)
    assert shapes == [[(2, 3 * num_queries), (2, num_keys), (2, num_keys)]]
    found = (out, *torch.autograd.grad(out, (q, k, v), g))
    expected = attended(q, k, v, g, None if ranges is None else ranges.mask(num_keys))
    for got, right in zip(found, expected, strict=True):
        assert got.shape == right.shape
        assert (got.double() - right).norm() <= 2e-6 * right.norm()


@pytest.mark.parametrize("onednn", [True, False])
def test_large_scores_do_not_overflow(onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_onednn_is_faster", lambda _: onednn)
    q = torch.full((256, 1, 1, 16), 50.0)
    v = torch.randn(256, 1, 1, 16)
    out = kernels.attention(q, q, v)
    torch.testing.assert_close(out, v.mean(0, keepdim=True).expand_as(v))


@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"scale": 0.3}])
def test_small_or_random_attention_is_torchs(options: dict[str, Any]) -> None:
    q, k, v = (torch.randn(length, 2, 3, 8) for length in (5, 7, 7))
    torch.manual_seed(0)
    out = kernels.attention(q, k, v, **options)
    torch.manual_seed(0)
    expected = F.scaled_dot_product_attention(
        *(x.permute(1, 2, 0, 3) for x in (q, k, v)),
        dropout_p=options.get("dropout", 0.0),
        scale=options.get("scale"),
    )
    torch.testing.assert_close(out, expected.permute(2, 0, 1, 3))


def test_linear_and_its_gradients_by_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_onednn_is_faster", lambda _: True)
    torch.manual_seed(0)
    x = torch.randn(96, 2, 200, requires_grad=True)
    weight = torch.randn(130, 200, requires_grad=True)
    g = torch.randn(96, 2, 130)
    out = kernels.linear(x, weight)
    assert out.grad_fn.name() != F.linear(x, weight).grad_fn.name(), "it is not torch's"
    found = (out, *torch.autograd.grad(out, (x, weight), g))
    wide = (x.double(), weight.double())
    expected_out = F.linear(*wide)
    expected = (expected_out, *torch.autograd.grad(expected_out, (x, weight), g.double()))
    for got, right in zip(found, expected, strict=True):
        assert (got - right).norm() <= 1e-6 * right.norm()
    frozen = kernels.linear(x.detach(), weight).sum()
    frozen.backward()
    assert weight.grad is not None


def test_autocast_chooses_the_type() -> None:
    x, weight = torch.randn(256, 256), torch.randn(256, 256)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert kernels.linear(x, weight).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convolution_of_doubled_pixels(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 5, 4, 3), (6, 5, 3, 3), (6,))
    x, weight, bias = (torch.randn(s, generator=generator).to(dtype) for s in shapes)
    given = [each.requires_grad_() for each in (x, weight, bias)]
    wide = [each.double() for each in given]
    out = kernels.conv_of_doubled(*given)
    doubled = wide[0].repeat_interleave(2, -1).repeat_interleave(2, -2)
    expected = F.conv2d(doubled, *wide[1:], padding=1)
    g = torch.randn(out.shape, generator=generator).to(dtype)
    found = (out, *torch.autograd.grad(out, given, g))
    right = (expected, *torch.autograd.grad(expected, given, g.double()))
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    for got, exact in zip(found, right, strict=True):
        assert got.dtype == dtype
        assert (got.double() - exact).norm() <= tolerance * exact.double().norm()


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_narrow_weight_by_columns(
    rows: int, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy has the same numbers and the same products, and the weight stays as it was."""
    monkeypatch.setattr(kernels, "_onednn_is_faster", lambda _: onednn)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2**16, 64, generator=generator, requires_grad=True)
    x = torch.randn(rows, 1, 64, generator=generator)
    by_columns = kernels.by_columns(weight)
    assert weight.is_contiguous()
    assert by_columns.t().is_contiguous()
    assert torch.equal(by_columns, weight)
    expected = x.double() @ weight.double().t()
    torch.testing.assert_close(
        kernels.linear(x, by_columns), expected.float(), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    "weight",
    [torch.ones(8, 64), torch.ones(4, 2**20), torch.ones(2**16, 64, dtype=torch.bfloat16)],
    ids=["small", "wide", "bfloat16"],
)
def test_a_weight_that_gains_nothing_by_columns_is_not_copied(weight: torch.Tensor) -> None:
    assert kernels.by_columns(weight) is weight


def test_a_mask_as_terms_hides_what_the_bools_hide() -> None:
    """The layers of a pass share it, and the outputs are the same to the bit."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(n, 1, 2, 16, generator=generator) for n in (5, 9, 9))
    last = torch.arange(5)
    ranges = kernels.KeyRanges(last // 2, last + 5)
    out = kernels.attention(q, k, v, key_ranges=ranges)
    assert torch.equal(out, kernels.attention(q, k, v, key_ranges=kernels.KeyTable(ranges.mask(9))))
    assert ranges.terms(9, q.dtype) is ranges.terms(9, q.dtype)
    assert torch.equal(ranges.terms(9, torch.bfloat16) == 0, ranges.mask(9))
