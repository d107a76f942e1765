"""The matrix products, the attention and one convolution of this device.

On CUDA these are torch's own. On a CPU torch's float32 products and the tiles of its attention go
to MKL, which uses the widest vector instructions on Intel's processors only. Where oneDNN, which
torch carries too, is faster, it does the products, and attention is done in whole products over
blocks of queries; :mod:`nemo_cosmos.platform.kernel_choice` measures that once a machine. Small
problems, where calling costs more than computing, stay with torch.

Shape suffixes: of attention, L queries, M keys, B batch, H heads, G groups of heads that share keys
and values, D head dimension; of pictures, N pictures, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from nemo_cosmos.cache import cache_dir
from nemo_cosmos.platform import kernel_choice

# Multiplications from which on a product gains more than a call through Python costs.
_LARGE_PRODUCT = 2**22
# Channels up to which a product of one row reads a large weight faster by columns.
_NARROW = 1024
# Scores of one head from which on whole products beat tiles.
_MANY_SCORES = 2**16
# Scores held at a time: 1 MB in float32, which fits into a core's second-level cache.
# Larger ones also return to the operating system and are mapped again page by page, which was
# measured to take as long as the products.
_BLOCK_SCORES = 2**18
_MIN_BLOCK_ROWS = 64
# A decoder's step: rows of a group of heads up to which they become one matrix, and numbers in the
# group's keys from which on that gains more than it costs (1.2 to 2 times as fast).
_FEW_ROWS = 32
_MANY_KEY_VALUES = 2**16
# Where a class of large problems begins, which are measured apart: multiplications, and scores.
_HUGE_PRODUCT = 2**27
_VERY_MANY_SCORES = 2**19


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``x @ weight.T + bias``, as :func:`torch.nn.functional.linear`.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out,) or None.
    """
    size = x.numel() * weight.shape[0]
    float32 = x.dtype == weight.dtype == torch.float32
    usual = bias is not None or size < _LARGE_PRODUCT or not float32 or not _is_plain_cpu(x)
    # Of one row and a weight by columns, torch's own library is the fastest everywhere.
    usual = usual or (x.numel() == x.shape[-1] and not weight.is_contiguous())
    if not usual and _onednn_is_faster(_product_class(size)):
        product: torch.Tensor = _Linear.apply(x.flatten(0, -2), weight)
        return product.unflatten(0, x.shape[:-1])
    return F.linear(x, weight, bias)


def by_columns(weight_OI: torch.Tensor) -> torch.Tensor:
    """Return a weight as :func:`linear` reads it fastest for one row or a few, such as a decoder's.

    On a CPU torch reads a large and narrow weight at a third of the memory's speed, and at all of
    it where the weight's columns lie in one piece: 64,000 x 192 numbers in 6.5 and in 1.9 ms. The
    result is a copy, for those who do not train the weight; others are returned as they are.
    """
    narrow = weight_OI.shape[1] <= _NARROW and weight_OI.numel() >= _LARGE_PRODUCT
    if not narrow or weight_OI.dtype != torch.float32 or not _is_plain_cpu(weight_OI):
        return weight_OI
    return weight_OI.detach().t().contiguous().t()


@dataclass(frozen=True, eq=False)
class KeyRanges:
    """The keys that each query sees: from the first to before the end, counted in the keys given.

    Attributes:
        first: (L,), or (B, L) where samples differ; int64, on the queries' device.
        end: the same shape; above ``first``.
        is_triangle: whether L = M and query ``i`` sees the keys 0 to ``i``, for which devices have
            kernels that need no ranges.
    """

    first: torch.Tensor
    end: torch.Tensor
    is_triangle: bool = False
    _masks: dict[int, torch.Tensor] = field(default_factory=dict, repr=False)
    _terms: dict[tuple[int, torch.dtype], torch.Tensor] = field(default_factory=dict, repr=False)

    def mask(self, num_keys: int) -> torch.Tensor:
        """True where a query sees a key: (L, M) or (B, 1, L, M); the layers of a pass share it."""
        if num_keys not in self._masks:
            self._masks[num_keys] = self._mask(num_keys)
        return self._masks[num_keys]

    def terms(self, num_keys: int, dtype: torch.dtype) -> torch.Tensor:
        """0 where a query sees a key and minus infinity elsewhere; shared like the mask."""
        key = (num_keys, dtype)
        if key not in self._terms:
            seen = self.mask(num_keys)
            hidden = torch.full_like(seen, float("-inf"), dtype=dtype)
            self._terms[key] = hidden.masked_fill_(seen, 0.0)
        return self._terms[key]

    def _mask(self, num_keys: int) -> torch.Tensor:
        key_M = torch.arange(num_keys, device=self.first.device)
        seen = (key_M >= self.first[..., None]) & (key_M < self.end[..., None])
        return seen if seen.dim() == 2 else seen[:, None]


class KeyTable(NamedTuple):
    """The keys that each query sees, where they are no run.

    Attributes:
        seen: True where a query sees a key: (L, M), or (B, 1, L, M) where samples differ.
        is_triangle: always False.
    """

    seen: torch.Tensor
    is_triangle: bool = False

    def mask(self, num_keys: int) -> torch.Tensor:
        """The table, whose last axis has ``num_keys`` entries."""
        assert self.seen.shape[-1] == num_keys
        return self.seen


def attention(
    q_LBHD: torch.Tensor,
    k_MBGD: torch.Tensor,
    v_MBGD: torch.Tensor,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
    key_ranges: KeyRanges | KeyTable | None = None,
) -> torch.Tensor:
    """Softmax attention; the memory grows with L + M, not with their product.

    Only a mask that differs between samples, shows keys that are no run, or is no triangle on CUDA
    is laid out as L x M bools.

    Args:
        q_LBHD: queries.
        k_MBGD: keys; G divides H, and each group of H / G consecutive heads shares one.
        v_MBGD: values.
        scale: factor of the scores; ``D ** -0.5`` by default.
        dropout: share of the weights that is dropped.
        key_ranges: the keys that each query sees; all by default.

    Returns:
        (L, B, H, D).
    """
    num_scores = q_LBHD.shape[0] * k_MBGD.shape[0]
    same = q_LBHD.dtype == k_MBGD.dtype == v_MBGD.dtype
    known = q_LBHD.dtype in (torch.float32, torch.bfloat16)
    plain = not dropout and _is_plain_cpu(q_LBHD)
    one_range = not isinstance(key_ranges, KeyTable) and (
        key_ranges is None or key_ranges.first.dim() == 1
    )
    ours = num_scores >= _MANY_SCORES and same and known and plain and one_range
    if ours and _onednn_is_faster(_attention_class(num_scores, q_LBHD.dtype)):
        scale = q_LBHD.shape[-1] ** -0.5 if scale is None else scale
        attended: torch.Tensor = _BlockedAttention.apply(q_LBHD, k_MBGD, v_MBGD, scale, key_ranges)
        return attended
    q, k, v = (x.permute(1, 2, 0, 3) for x in (q_LBHD, k_MBGD, v_MBGD))
    is_triangle = key_ranges is not None and key_ranges.is_triangle
    mask = None
    if key_ranges is not None and not is_triangle:
        few = plain and num_scores < _VERY_MANY_SCORES
        mask = _laid_out(key_ranges, len(k_MBGD), q.dtype if few else torch.bool)
    if plain and not is_triangle and _gains_by_folding(q, k):
        return _folded_attention(q, k, v, scale, mask)
    out_BHLD = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=is_triangle,
        scale=scale,
        enable_gqa=q_LBHD.shape[2] != k_MBGD.shape[2],
    )
    return out_BHLD.permute(2, 0, 1, 3)


def _laid_out(ranges: KeyRanges | KeyTable, num_keys: int, dtype: torch.dtype) -> torch.Tensor:
    """The mask as bools, or as what torch makes of these in every layer and adds to the scores."""
    if dtype == torch.bool or isinstance(ranges, KeyTable):
        return ranges.mask(num_keys)
    return ranges.terms(num_keys, dtype)


def _gains_by_folding(q_BHLD: torch.Tensor, k_BGMD: torch.Tensor) -> bool:
    """Whether heads share keys, few queries meet many of them, and reading these takes the time."""
    shared = q_BHLD.shape[1] // k_BGMD.shape[1]
    few = 1 < shared <= shared * q_BHLD.shape[2] <= _FEW_ROWS
    return few and k_BGMD.shape[2] * k_BGMD.shape[3] >= _MANY_KEY_VALUES


def _folded_attention(
    q_BHLD: torch.Tensor,
    k_BGMD: torch.Tensor,
    v_BGMD: torch.Tensor,
    scale: float | None,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Attention of few queries, such as a decoder's; returns (L, B, H, D).

    The heads of a group become rows of one matrix, so that its keys and values, which are the most
    of what is read, are read once and not once a head.
    """
    groups, length = k_BGMD.shape[1], q_BHLD.shape[2]
    q_BGRLD = q_BHLD.unflatten(1, (groups, -1))
    if mask is not None:
        mask = mask.repeat(*[1] * (mask.dim() - 2), q_BGRLD.shape[2], 1)
    rows = F.scaled_dot_product_attention(
        q_BGRLD.flatten(2, 3), k_BGMD, v_BGMD, attn_mask=mask, scale=scale
    )
    return rows.unflatten(2, (-1, length)).permute(3, 0, 1, 2, 4).flatten(2, 3)


def conv_of_doubled(
    x_NCHW: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """A 3x3 convolution, padded by zeros, of a picture whose every pixel is repeated 2x2.

    The nine weights meet four different pixels: a transposed 4x4 convolution of stride 2 does the
    same with less than half of the multiplications.

    Args:
        x_NCHW: the picture before its pixels are repeated.
        weight: (out, C, 3, 3).
        bias: (out,) or None.

    Returns:
        (N, out, 2H, 2W).
    """
    if x_NCHW.dtype != torch.float32 or not _is_plain_cpu(x_NCHW):
        doubled = F.interpolate(x_NCHW, scale_factor=2, mode="nearest")
        return F.conv2d(doubled, weight, bias, padding=1)
    # Channels last, a sum is of whole rows of memory.
    taps_33CO = weight.permute(0, 2, 3, 1).flatten(1).t().contiguous().unflatten(0, (3, 3, -1))
    sums_C44O = _over_doubled(*(_over_doubled(*row_3CO) for row_3CO in taps_33CO))
    return F.conv_transpose2d(x_NCHW, sums_C44O.permute(0, 3, 1, 2), bias, stride=2, padding=1)


def _over_doubled(first: torch.Tensor, second: torch.Tensor, third: torch.Tensor) -> torch.Tensor:
    """The four taps of a transposed convolution, stacked, from three over doubled samples."""
    return torch.stack([third, second + third, first + second, first], 1)


def _is_plain_cpu(x: torch.Tensor) -> bool:
    """Whether a tensor is on a CPU, and there is no autocast, which chooses the types."""
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def _onednn_is_faster(problem: str) -> bool:
    """Whether oneDNN computes a class of problems faster than torch's own library."""
    return kernel_choice.library_for(problem, _contests) == kernel_choice.ONEDNN


def measured() -> dict[str, kernel_choice.Timing]:
    """What each class of problems takes here, by either library; measured now if never before."""
    return kernel_choice.timings(torch.get_num_threads(), _contests, cache_dir())


def _product_class(size: int) -> str:
    return "product" if size < _HUGE_PRODUCT else "huge product"


def _attention_class(num_scores: int, dtype: torch.dtype) -> str:
    length = "short" if num_scores < _VERY_MANY_SCORES else "long"
    return f"{length} attention, {str(dtype).removeprefix('torch.')}"


def _contests() -> dict[str, kernel_choice.Contest]:
    """One problem of each class with its gradients, by torch's own library and by oneDNN."""
    found = {
        _product_class(rows * width * width): _product_contest(rows, width)
        for rows, width in ((512, 128), (1024, 512))
    }
    for length in (384, 1024):
        for dtype in (torch.float32, torch.bfloat16):
            found[_attention_class(length**2, dtype)] = _attention_contest(length, dtype)
    return found


def _product_contest(rows: int, width: int) -> kernel_choice.Contest:
    x, weight = (torch.full((n, width), 0.01, requires_grad=True) for n in (rows, width))
    ones = torch.ones(rows, width)
    return (
        lambda: torch.autograd.grad(F.linear(x, weight), (x, weight), ones),
        lambda: torch.autograd.grad(_Linear.apply(x, weight), (x, weight), ones),
    )


def _attention_contest(length: int, dtype: torch.dtype) -> kernel_choice.Contest:
    scale, heads, depth = 0.125, 2, 64
    q, k, v = (
        torch.full((length, 1, heads, depth), 0.01, dtype=dtype, requires_grad=True)
        for _ in range(3)
    )
    ones = torch.ones_like(q)

    def by_torch() -> object:
        x, y, z = (part.permute(1, 2, 0, 3) for part in (q, k, v))
        out = F.scaled_dot_product_attention(x, y, z, scale=scale).permute(2, 0, 1, 3)
        return torch.autograd.grad(out, (q, k, v), ones)

    def by_onednn() -> object:
        out = _BlockedAttention.apply(q, k, v, scale, None)
        return torch.autograd.grad(out, (q, k, v), ones)

    return by_torch, by_onednn


def _product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``x @ weight.T`` of float32 matrices by oneDNN."""
    # It has no fast path for rows with gaps between them.
    if not (weight.is_contiguous() or weight.t().is_contiguous()):
        weight = weight.contiguous()
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return product


class _Linear(torch.autograd.Function):
    """A float32 linear map."""

    @staticmethod
    def forward(ctx: Any, x_LI: torch.Tensor, weight_OI: torch.Tensor) -> torch.Tensor:
        # The gradient of a frozen weight, which alone needs x, is never asked for.
        ctx.save_for_backward(x_LI if ctx.needs_input_grad[1] else None, weight_OI)
        return _product(x_LI, weight_OI)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (g_LO,) = gradients
        x_LI, weight_OI = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad
        return (
            _product(g_LO, weight_OI.t()) if needs_x else None,
            _product(g_LO.t(), x_LI.t()) if needs_weight else None,
        )


class _BlockedAttention(torch.autograd.Function):
    """Attention, head by head and block by block; the backward pass computes the weights again.

    Scores and their softmax are float32 for inputs of either type, as in torch's own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_LBHD: torch.Tensor,
        k_MBGD: torch.Tensor,
        v_MBGD: torch.Tensor,
        scale: float,
        key_ranges: KeyRanges | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(q_LBHD, k_MBGD, v_MBGD)
        ctx.scale, ctx.blocks = scale, _blocks(len(q_LBHD), len(k_MBGD), key_ranges)
        out_LBHD = torch.empty(q_LBHD.shape, dtype=q_LBHD.dtype)
        for b, g, heads in _groups(q_LBHD, k_MBGD):
            keys, values = k_MBGD[:, b, g].float().contiguous(), v_MBGD[:, b, g].contiguous()
            for h in heads:
                for block in ctx.blocks:
                    weights = block.weights(q_LBHD[block.rows, b, h], keys, scale)
                    out = _times(weights.to(values.dtype), values[block.keys])
                    out_LBHD[block.rows, b, h] = out
        return out_LBHD

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q_LBHD, k_MBGD, v_MBGD = ctx.saved_tensors
        dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype) for x in ctx.saved_tensors)
        for b, g, heads in _groups(q_LBHD, k_MBGD):
            k, v = k_MBGD[:, b, g].contiguous(), v_MBGD[:, b, g].contiguous()
            keys = k.float()
            dk_sum, dv_sum = torch.zeros_like(keys), torch.zeros_like(keys)
            for h in heads:
                q, grad = q_LBHD[:, b, h].contiguous(), gradients[0][:, b, h].contiguous()
                for block in ctx.blocks:
                    rows, seen = block.rows, block.keys
                    weights = block.weights(q[rows], keys, ctx.scale)
                    d_weights = _times(grad[rows], v[seen].t())
                    weights = weights.to(q.dtype)
                    d_scores = torch._softmax_backward_data(d_weights, weights, -1, q.dtype)
                    dq[rows, b, h] = _times(d_scores, k[seen]).mul_(ctx.scale)
                    dk_sum[seen] += _times(d_scores.t(), q[rows])
                    dv_sum[seen] += _times(weights.t(), grad[rows])
            dk[:, b, g] = dk_sum.mul_(ctx.scale)
            dv[:, b, g] = dv_sum
        return dq, dk, dv, None, None


class _Block(NamedTuple):
    """Some queries, and the keys that any of them sees.

    Attributes:
        rows: the queries.
        keys: the keys.
        ranges: what each query sees, where they differ.
    """

    rows: slice
    keys: slice
    ranges: KeyRanges | None

    def weights(self, q: torch.Tensor, keys: torch.Tensor, scale: float) -> torch.Tensor:
        """Attention weights of the block's queries, float32."""
        scores = _product(q.float() * scale, keys[self.keys])
        if self.ranges is not None:
            seen = self.ranges.mask(self.keys.stop)[:, self.keys]
            scores.masked_fill_(~seen, float("-inf"))
        return torch.softmax(scores, -1)


def _groups(q_LBHD: torch.Tensor, k_MBGD: torch.Tensor) -> Iterator[tuple[int, int, range]]:
    """The heads that share keys and values: sample, group and the group's heads."""
    _, batch, num_groups, _ = k_MBGD.shape
    size = q_LBHD.shape[2] // num_groups
    for b in range(batch):
        for g in range(num_groups):
            yield b, g, range(g * size, (g + 1) * size)


def _blocks(num_queries: int, num_keys: int, key_ranges: KeyRanges | None) -> list[_Block]:
    num_rows = max(_BLOCK_SCORES // num_keys, _MIN_BLOCK_ROWS)
    blocks = []
    for start in range(0, num_queries, num_rows):
        rows = slice(start, start + num_rows)
        if key_ranges is None:
            blocks.append(_Block(rows, slice(0, num_keys), None))
            continue
        first, end = key_ranges.first[rows], key_ranges.end[rows].clamp(max=num_keys)
        # Keys that no query of the block sees are left out: half of all under a causal mask.
        seen = slice(int(first.min()), int(end.max()))
        differ = bool((first != first[0]).any() or (end != end[0]).any())
        blocks.append(_Block(rows, seen, KeyRanges(first, end) if differ else None))
    return blocks


def _times(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``left @ right`` in the type of both."""
    if left.dtype != torch.float32:
        return left @ right
    if left.is_contiguous():
        return _product(left, right.t())
    return _product(right.t().contiguous(), left).t()
