"""The autoregressive transformer again, in plain torch and the published layout of weights.

Written from the published description alone and shares no code with the network. Tensors are
(batch, tokens, ...); keys are those of the original checkpoints without the prefix ``model.``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]
THETA, EPS = 500_000.0, 1e-5


def reference_logits(
    state: State,
    tokens: Tensor,
    grid: tuple[int, int, int],
    head_dim: int,
    *,
    text: Tensor | None = None,
    begins: bool = False,
    absolute: bool = False,
    yarn: tuple[int, int, int] | None = None,
) -> Tensor:
    """Scores of the next token, (batch, tokens, vocabulary)."""
    x = state["tok_embeddings.weight"][tokens]
    angles = rope_angles(grid, head_dim, yarn)
    places = sincos(grid, x.shape[-1]) if absolute else torch.zeros(math.prod(grid), x.shape[-1])
    if begins:
        angles = torch.cat([torch.zeros(1, head_dim), angles])
        places = torch.cat([torch.zeros(1, x.shape[-1]), places])
    length = tokens.shape[1]
    angles, places = angles[:length], places[:length]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    num_layers = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("layers."))
    for number in range(num_layers):
        prefix = f"layers.{number}."
        weights = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        x = x + places
        normed = rms_norm(x, weights["attention_norm.weight"])
        x = x + attention(weights, "attention.", normed, normed, head_dim, angles, causal)
        if text is not None:
            normed = rms_norm(x, weights["cross_attention_norm.weight"])
            x = x + attention(weights, "cross_attention.", normed, text, head_dim, None, None)
        normed = rms_norm(x, weights["ffn_norm.weight"])
        gate = normed @ weights["feed_forward.w1.weight"].T
        up = normed @ weights["feed_forward.w3.weight"].T
        x = x + (gate * torch.sigmoid(gate) * up) @ weights["feed_forward.w2.weight"].T
    return rms_norm(x, state["norm.weight"]) @ state["output.weight"].T


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt() * weight


def attention(
    weights: State,
    prefix: str,
    x: Tensor,
    context: Tensor,
    head_dim: int,
    angles: Tensor | None,
    mask: Tensor | None,
) -> Tensor:
    def heads(name: str, source: Tensor) -> Tensor:
        projected = source @ weights[f"{prefix}{name}.weight"].T
        return projected.reshape(*projected.shape[:2], -1, head_dim)

    q = rms_norm(heads("wq", x), weights[f"{prefix}q_norm.weight"])
    k = rms_norm(heads("wk", context), weights[f"{prefix}k_norm.weight"])
    v = heads("wv", context)
    if angles is not None:
        q, k = turn(q, angles), turn(k, angles)
    repeats = q.shape[2] // k.shape[2]
    out = torch.zeros_like(q)
    for head in range(q.shape[2]):
        scores = q[:, :, head] @ k[:, :, head // repeats].transpose(1, 2) / math.sqrt(head_dim)
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        out[:, :, head] = scores.softmax(-1) @ v[:, :, head // repeats]
    return out.flatten(2) @ weights[f"{prefix}wo.weight"].T


def turn(x: Tensor, angles: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    half_turned = torch.cat([-second, first], dim=-1)
    return x * angles.cos()[:, None] + half_turned * angles.sin()[:, None]


def rope_angles(
    grid: tuple[int, int, int], head_dim: int, yarn: tuple[int, int, int] | None
) -> Tensor:
    """(tokens, head_dim): the angles of (t, h, w), twice."""
    dim_space = head_dim // 6 * 2
    frequencies = []
    for axis, dim in enumerate((head_dim - 2 * dim_space, dim_space, dim_space)):
        along = [THETA ** -(2 * i / dim) for i in range(dim // 2)]
        if yarn is not None:
            length = yarn[0] if axis == 0 else yarn[1]
            low, high = 2 * math.pi / length, 2 * math.pi * 4 / length
            mix = [min(max((f - low) / (high - low), 0.0), 1.0) for f in along]
            along = [f * ((1 - m) / 2 + m) for f, m in zip(along, mix, strict=True)]
        frequencies.append(along)
    rows = [
        [place * f for place, along in zip(where, frequencies, strict=True) for f in along]
        for where in places_of(grid)
    ]
    return torch.tensor([row * 2 for row in rows])


def sincos(grid: tuple[int, int, int], width: int) -> Tensor:
    """(tokens, width): sines, then cosines, of time, height and width."""
    dim_space = width // 6 * 2
    rows = []
    for where in places_of(grid):
        row: list[float] = []
        dims = (width - 2 * dim_space, dim_space, dim_space)
        for place, dim in zip(where, dims, strict=True):
            angles = [place / 10_000 ** (i / (dim // 2)) for i in range(dim // 2)]
            row += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        rows.append(row)
    return torch.tensor(rows)


def places_of(grid: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    frames, rows, columns = grid
    return [(t, h, w) for t in range(frames) for h in range(rows) for w in range(columns)]
