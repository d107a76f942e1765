"""The rotary embedding over time, height and width."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.models.common.rope import Rope3D, Yarn, apply_rope

CPU = torch.device("cpu")


def rotate(rope: Rope3D, x: torch.Tensor, fps: float | None = None) -> torch.Tensor:
    fps_B = None if fps is None else torch.tensor([fps])
    return apply_rope(x, rope((4, 3, 5), fps_B, CPU))


def test_lengths_are_kept_and_the_origin_stays() -> None:
    x = torch.randn(60, 1, 2, 40)
    out = rotate(Rope3D(40), x)
    torch.testing.assert_close(out.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(out[0], x[0])


def test_scores_depend_on_the_difference_of_positions() -> None:
    query, key = torch.randn(2, 40)
    rope = Rope3D(40, ratios_thw=(2.0, 1.0, 1.5))
    q = rotate(rope, query.expand(60, 1, 1, 40)).reshape(4, 3, 5, 40)
    k = rotate(rope, key.expand(60, 1, 1, 40)).reshape(4, 3, 5, 40)
    near = q[1, 0, 2] @ k[3, 2, 1]
    moved = q[0, 0, 3] @ k[2, 2, 2]
    torch.testing.assert_close(near, moved, atol=1e-4, rtol=1e-4)
    assert (near - q[1, 1, 2] @ k[3, 2, 1]).abs() > 1e-3


def test_a_second_is_a_second_at_every_frame_rate() -> None:
    x = torch.randn(1, 1, 1, 40).expand(60, 1, 1, 40)
    rope = Rope3D(40, base_fps=24.0)
    at_24 = rotate(rope, x, 24.0).reshape(4, 3, 5, 40)
    at_12 = rotate(rope, x, 12.0).reshape(4, 3, 5, 40)
    torch.testing.assert_close(at_12[1], at_24[2])
    assert torch.equal(rotate(rope, x).reshape(4, 3, 5, 40), at_24)


def test_frame_rates_of_a_batch() -> None:
    x = torch.randn(60, 2, 1, 40)
    rope = Rope3D(40)
    both = apply_rope(x, rope((4, 3, 5), torch.tensor([10.0, 30.0]), CPU))
    torch.testing.assert_close(both[:, :1], rotate(rope, x[:, :1], 10.0))
    torch.testing.assert_close(both[:, 1:], rotate(rope, x[:, 1:], 30.0))


def test_gradient() -> None:
    x = torch.randn(12, 1, 1, 18, requires_grad=True)
    table = Rope3D(18)((3, 2, 2), None, CPU)
    weight = torch.randn(12, 1, 1, 18)
    (apply_rope(x, table) * weight).sum().backward()
    a, b = x.detach().chunk(2, -1)
    turned = torch.cat(
        [a * table.cos_LB1D - b * table.sin_LB1D, b * table.cos_LB1D + a * table.sin_LB1D], -1
    )
    torch.testing.assert_close(apply_rope(x.detach(), table), turned)
    # <R x, w> = <x, R^T w>, and R^T turns back: turning the gradient forth gives the weight.
    torch.testing.assert_close(apply_rope(x.grad, table), weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_type_is_kept(dtype: torch.dtype) -> None:
    x = torch.randn(60, 1, 1, 40)
    out = rotate(Rope3D(40), x.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), rotate(Rope3D(40), x), atol=0.02, rtol=0.02)


def test_yarn_divides_slow_frequencies_and_keeps_fast_ones() -> None:
    plain = Rope3D(48, theta=500_000.0)
    longer = Rope3D(48, theta=500_000.0, yarn=Yarn((3, 40, 64)))
    for axis, length in enumerate((3, 40, 40)):
        before, after = plain.frequencies(CPU)[axis], longer.frequencies(CPU)[axis]
        turns = before * length / (2 * torch.pi)
        torch.testing.assert_close(after[turns <= 1], before[turns <= 1] / 2)
        torch.testing.assert_close(after[turns >= 4], before[turns >= 4])
        between = (turns > 1) & (turns < 4)
        assert ((after[between] > before[between] / 2) & (after[between] < before[between])).all()
