"""Checks 4, 5, 9 and 15: elementwise steps, attention, packs, and compilation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import torch

from nemo_cosmos.models.common.fused import (
    Region,
    add_gated,
    add_gated_and_modulate,
    modulate,
    place_and_modulate,
    rms_norm,
    rotate,
)
from nemo_cosmos.models.common.fused.formulas import take_rows
from nemo_cosmos.platform import kernels
from nemo_cosmos.testing.first_run.kit import (
    NANO_THW,
    Figures,
    error_of,
    expect,
    inputs_for,
    is_full,
    needs_gpu,
    network,
    peak_gb,
    timed,
)

TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


def elementwise_steps(device: torch.device) -> Figures:
    """Each step's values and gradients against its formula in float64."""
    worst: dict[str, float] = {}
    for dtype, tolerance in TOLERANCES.items():
        for name, (region, arguments) in _steps(device, dtype, num_tokens=96, width=48).items():
            ours = _with_gradients(region, arguments)
            exact = _with_gradients(region.formula, [_double(each) for each in arguments])
            error = max(error_of(*pair) for pair in zip(ours, exact, strict=True))
            worst[f"{name} {str(dtype).removeprefix('torch.')}"] = round(error, 7)
            expect(error < tolerance, f"{name} in {dtype} is off by {error:.2g}")
    return {"worst_relative_error": worst}


def attention(device: torch.device) -> Figures:
    """Values, gradients, time and memory: scores are never laid out."""
    heads, width = (32, 128) if is_full(device) else (2, 24)

    def draw(length: int, count: int, dtype: torch.dtype) -> list[torch.Tensor]:
        shape = (length, 1, count, width)
        return [torch.randn(shape, device=device).to(dtype).requires_grad_() for _ in range(3)]

    figures: Figures = {}
    for dtype, tolerance in ((torch.float32, 2e-3), (torch.bfloat16, 2e-2)):
        parts = draw(256, 2, dtype)
        out = kernels.attention(*parts)
        out.square().sum().backward()
        exact_parts = [each.detach().double().requires_grad_() for each in parts]
        exact = _plain_attention(*exact_parts)
        exact.square().sum().backward()
        pairs = [(out, exact)]
        for part, exact_part in zip(parts, exact_parts, strict=True):
            expect(part.grad is not None, "attention gives no gradient")
            pairs.append((cast("torch.Tensor", part.grad), cast("torch.Tensor", exact_part.grad)))
        error = max(error_of(*pair) for pair in pairs)
        figures[f"error {str(dtype).removeprefix('torch.')}"] = round(error, 6)
        expect(error < tolerance, f"attention in {dtype} is off by {error:.2g}")
    for length in (4096, 16_384, 56_320) if is_full(device) else (128,):
        parts = draw(length, heads, torch.bfloat16)
        with torch.no_grad():
            seconds = timed(lambda p=parts: kernels.attention(*p), device)  # type: ignore[misc]
            memory = peak_gb(lambda p=parts: kernels.attention(*p), device)  # type: ignore[misc]
        rate = 4 * length**2 * heads * width / seconds / 1e12
        figures[f"{length} tokens"] = {"ms": round(seconds * 1e3, 2), "tflops": round(rate, 2)}
        if memory is not None:
            scores_gb = 2 * length**2 * heads / 1e9
            figures[f"{length} tokens"]["peak_gb"] = memory
            expect(memory < max(10.0, scores_gb / 4), f"{length} tokens take {memory} GB")
    if is_full(device):
        figures["kernels"] = _kernel_names(lambda: kernels.attention(*parts), device)
        # Without a kernel for float32 the scores of one head of 56,320 tokens are 12.7 GB.
        wide = draw(56_320, 2, torch.float32)
        memory = peak_gb(lambda: kernels.attention(*wide), device)
        expect(memory is not None and memory < 8, f"float32 at 56,320 tokens takes {memory} GB")
        figures["float32 56320 tokens peak_gb"] = memory
    return figures


def packs(device: torch.device) -> Figures:
    """A pack's predictions are its samples'; how long the gradient of a modulation takes."""
    net = network(device)
    shapes = [NANO_THW, (1, 8, 8), (2, 4, 8), (3, 4, 4), (1, 4, 8), (2, 8, 8), (3, 8, 4), (1, 2, 2)]
    samples = [
        inputs_for(net.config, device, shape, seed=number) for number, shape in enumerate(shapes)
    ]
    with torch.no_grad():
        together = net(samples)
        errors = [error_of(one, net(sample)) for one, sample in zip(together, samples, strict=True)]
    expect(max(errors) < 2e-3, f"a sample in a pack is off by {max(errors):.2g}")
    length, width = (56_320, 4096) if is_full(device) else (96, 48)
    rows = torch.arange(8, device=device).repeat_interleave(length // 8)
    dtype = torch.bfloat16 if is_full(device) else torch.float32
    table = torch.randn(8, 1, width, device=device).to(dtype).requires_grad_()
    gradient = torch.randn(len(rows), 1, width, device=device).to(dtype)
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "take_rows": lambda: take_rows(table, rows),
        "index": lambda: table[rows],
        "embedding": lambda: torch.nn.functional.embedding(rows, table.flatten(1))[:, None],
    }
    seconds = {
        name: timed(
            lambda way=way: torch.autograd.grad(way(), table, gradient),  # type: ignore[misc]
            device,
            1,
        )
        for name, way in ways.items()
    }
    if is_full(device):
        expect(
            seconds["take_rows"] < 0.05, f"a modulation's rows take {seconds['take_rows']:.3f} s"
        )
    return {
        "worst_relative_error": round(max(errors), 7),
        "rows_ms": {name: round(each * 1e3, 3) for name, each in seconds.items()},
    }


def compilation(device: torch.device) -> Figures:
    """What compiled steps gain over their formulas, what compiling takes, and a CUDA graph."""
    needs_gpu(device, "steps are compiled for a GPU alone")
    figures: Figures = {}
    steps = _steps(device, torch.bfloat16, num_tokens=56_320, width=4096)
    for name, (region, arguments) in steps.items():
        start = time.perf_counter()
        _with_gradients(region, arguments)
        compiling_s = time.perf_counter() - start
        plain_s = timed(lambda r=region, a=arguments: _with_gradients(r.formula, a), device)  # type: ignore[misc]
        ours_s = timed(lambda r=region, a=arguments: _with_gradients(r, a), device)  # type: ignore[misc]
        figures[name] = {
            "compiling_s": round(compiling_s, 1),
            "plain_ms": round(plain_s * 1e3, 2),
            "ms": round(ours_s * 1e3, 2),
        }
        expect(ours_s < 1.1 * plain_s, f"{name}: {ours_s * 1e3:.2f} ms, plain {plain_s * 1e3:.2f}")
    figures["graph"] = _graph(device)
    return figures


def _graph(device: torch.device) -> Figures:
    """A nano network's forward pass, launched kernel by kernel and as one graph."""
    net = network(device, fused="plain").requires_grad_(False)
    given = inputs_for(net.config, device)
    stream = torch.cuda.Stream()
    with torch.no_grad(), torch.cuda.stream(stream):
        for _ in range(3):
            expected = net(given)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.no_grad(), torch.cuda.graph(graph):
            captured = net(given)
    except RuntimeError as error:
        return {"captures": False, "reason": " ".join(str(error).split())[:200]}
    graph.replay()
    expect(error_of(captured, expected) < 1e-3, "the graph computes something else")
    with torch.no_grad():
        eager_s = timed(lambda: net(given), device, 10)
    replay_s = timed(graph.replay, device, 10)
    return {"captures": True, "ms": round(eager_s * 1e3, 3), "graph_ms": round(replay_s * 1e3, 3)}


def _steps(
    device: torch.device, dtype: torch.dtype, num_tokens: int, width: int
) -> dict[str, tuple[Region, list[Any]]]:
    """The elementwise steps with inputs: two rows of modulation, and a head of 24 channels."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int, of: torch.dtype = dtype) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device, of)

    x, update = draw(num_tokens, 1, width), draw(num_tokens, 1, width)
    position = draw(num_tokens, 1, width)
    gate, shift, scale = draw(2, 1, width), draw(2, 1, width), draw(2, 1, width)
    head = 24 if width % 128 else 128
    angles = draw(num_tokens, 1, 1, head // 2, of=torch.float32)
    heads = draw(num_tokens, 1, width // head, head)
    return {
        "rms_norm": (rms_norm, [heads, draw(head), 1e-6]),
        "rotate": (rotate, [heads, angles.cos(), angles.sin()]),
        "modulate": (modulate, [x, shift, scale]),
        "place_and_modulate": (place_and_modulate, [x, position, shift, scale]),
        "add_gated": (add_gated, [x, gate, update]),
        "add_gated_and_modulate": (add_gated_and_modulate, [x, gate, update, shift, scale]),
    }


def _with_gradients(step: Callable[..., Any], arguments: list[Any]) -> list[torch.Tensor]:
    """Results of a step, and the gradients of the floating-point inputs of its own precision."""
    leaves = [
        each.detach().requires_grad_() if isinstance(each, torch.Tensor) else each
        for each in arguments
    ]
    tables = [index for index in (1, 2) if step in (rotate, rotate.formula) and index < len(leaves)]
    for index in tables:
        leaves[index] = leaves[index].detach()
    out = step(*leaves)
    outs = list(out) if isinstance(out, tuple) else [out]
    wanted = [each for each in leaves if isinstance(each, torch.Tensor) and each.requires_grad]
    gradients = torch.autograd.grad(sum(each.square().sum() for each in outs), wanted)
    return [*(each.detach() for each in outs), *gradients]


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) else value


def _plain_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scores = torch.einsum("lbhd,mbhd->bhlm", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("bhlm,mbhd->lbhd", scores.softmax(-1), v)


def _kernel_names(work: Callable[[], object], device: torch.device) -> list[str]:
    """The kernels that take longest."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiled:
        work()
        torch.cuda.synchronize(device)
    rows = sorted(profiled.key_averages(), key=lambda row: -row.self_device_time_total)
    return [row.key[:80] for row in rows[:3]]
