"""Checks 6 to 8, 10, 12 and 13: the network, its step, the sampler and the tokenizer."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from nemo_cosmos.batch import LatentBatch
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.flops import dit_flops
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.denoiser import SamplingInputs, make_denoiser
from nemo_cosmos.models.diffusion.process.samplers import sample, seeded_noise
from nemo_cosmos.models.diffusion.process.training_step import TrainingStep, prepare_step
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.testing.first_run.kit import (
    FULL_THW,
    NANO_THW,
    Figures,
    error_of,
    expect,
    inputs_for,
    is_full,
    network,
    peak_gb,
    timed,
    wait,
    wide_config,
)

CPU = torch.device("cpu")


def network_in_bfloat16(device: torch.device) -> Figures:
    """A small network's output and all its gradients in bfloat16, against the CPU in float32."""
    exact_net = network(CPU)
    exact = exact_net(inputs_for(exact_net.config, CPU))
    exact.square().mean().backward()
    net = network(device, torch.bfloat16)
    out = net(inputs_for(net.config, device, dtype=torch.bfloat16))
    out.float().square().mean().backward()
    error = error_of(out, exact)
    expect(error < 0.05, f"the output is off by {error:.3f}")
    worst, name = 0.0, ""
    for name_here, parameter in net.named_parameters():
        gradient, exact_gradient = parameter.grad, exact_net.get_parameter(name_here).grad
        expect((gradient is None) == (exact_gradient is None), f"{name_here} has no gradient")
        if gradient is None or exact_gradient is None:
            continue
        error_here = error_of(gradient, exact_gradient)
        if error_here > worst:
            worst, name = error_here, name_here
    expect(worst < 0.2, f"the gradient of {name} is off by {worst:.3f}")
    return {"output_error": round(error, 4), "worst_gradient_error": round(worst, 4), "of": name}


def two_wide_layers(device: torch.device) -> Figures:
    """Two layers of the 7B model at 56,320 tokens: time, rate, memory and the kernels."""
    step, flops, net = _wide_step(device)
    memory = peak_gb(step, device)
    seconds = timed(step, device)
    rate = flops / seconds / 1e12
    figures: Figures = {
        "step_ms": round(seconds * 1e3, 1),
        "tflops": round(rate, 2),
        "peak_gb": memory,
        "parameters": sum(each.numel() for each in net.parameters()),
    }
    if is_full(device):
        figures["kernels"] = _shares(step, device)
        expect(rate > 250, f"{rate:.0f} TFLOP/s; half of a product's rate was expected")
    return figures


def recomputation(device: torch.device) -> Figures:
    """The same step with all, one and no layer's activations computed again."""
    ways: dict[str, dict[str, Any]] = {
        "none": {},
        "one layer": {
            "recompute_granularity": "full",
            "recompute_method": "block",
            "recompute_num_layers": 1,
        },
        "all": {
            "recompute_granularity": "full",
            "recompute_method": "uniform",
            "recompute_num_layers": 1,
        },
    }
    figures: Figures = {}
    gradients: dict[str, torch.Tensor] = {}
    for name, changes in ways.items():
        step, _, net = _wide_step(device, **changes)
        memory = peak_gb(step, device)
        figures[name] = {"step_ms": round(timed(step, device, 1) * 1e3, 1), "peak_gb": memory}
        weight = dict(net.named_parameters())["blocks.layers.0.mlp.linear_fc1.weight"]
        expect(weight.grad is not None, "the first layer has no gradient")
        gradients[name] = weight.grad.float().cpu()
        del step, net, weight
    for name in ways:
        error = error_of(gradients[name], gradients["none"])
        figures[name]["gradient_error"] = round(error, 6)
        expect(error < 0.02, f"recomputing {name} changes gradients by {error:.3g}")
    if is_full(device):
        expect(
            figures["all"]["peak_gb"] < figures["none"]["peak_gb"], "recomputation saves nothing"
        )
    return figures


def host_work_of_a_step(device: torch.device) -> Figures:
    """What the host does to prepare a step, and how often it waits for the GPU meanwhile."""
    ensure_model_parallel()
    thw, text_tokens = (FULL_THW, 512) if is_full(device) else (NANO_THW, 16)
    config = DiffusionConfig(conditioning=ConditioningConfig(max_condition_latents=2))
    latent = torch.randn(1, 16, *thw, device=device)
    batch: LatentBatch = {
        "latent": latent,
        "t5_text_embeddings": torch.randn(1, text_tokens, 1024, device=device),
        "fps": torch.full((1,), 24.0, device=device),
    }

    def prepare(step: int = 7) -> TrainingStep:
        prepared = prepare_step(batch, ["clip-0"], 1, step, config)
        assert isinstance(prepared, TrainingStep)
        return prepared

    first, again, other = prepare(), prepare(), prepare(8)
    expect(torch.equal(first.composed_BCTHW, again.composed_BCTHW), "a step's noise changes")
    expect(not torch.equal(first.composed_BCTHW, other.composed_BCTHW), "steps share their noise")
    wait(device)
    waits: list[str] = []
    if is_full(device):
        torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            start = time.perf_counter()
            prepare()
            host_s = time.perf_counter() - start
        waits = [str(each.message)[:120] for each in caught if "synchroniz" in str(each.message)]
    finally:
        if is_full(device):
            torch.cuda.set_sync_debug_mode("default")
    wait(device)
    expect(not waits, f"the host waits {len(waits)} times: {waits[:2]}")
    device_s = timed(prepare, device)
    return {"host_ms": round(host_s * 1e3, 2), "whole_ms": round(device_s * 1e3, 2), "waits": 0}


def sampler(device: torch.device) -> Figures:
    """Four guided steps, against the CPU."""
    config = DiffusionConfig(conditioning=ConditioningConfig(max_condition_latents=0))
    results = []
    seconds = 0.0
    for where in (CPU, device):
        net = network(where, condition_mask=False).eval().requires_grad_(False)
        text = inputs_for(net.config, where).text
        assert isinstance(text, torch.Tensor)
        given = SamplingInputs(
            text, torch.zeros_like(text), guidance=3.0, fps_B=torch.full((1,), 24.0, device=where)
        )
        start = time.perf_counter()
        denoise = make_denoiser(net, given, config)
        noise = seeded_noise((1, 16, *NANO_THW), 5).to(where)
        results.append(sample(denoise, noise, num_steps=4))
        wait(where)
        seconds = time.perf_counter() - start
    error = error_of(results[1], results[0])
    expect(error < 1e-2, f"the sample is off by {error:.3g}")
    return {"relative_error": round(error, 7), "seconds": round(seconds, 2)}


def tokenizer(device: torch.device) -> Figures:
    """Values without TF32 against the CPU; time and memory of 33 frames of 704x1280."""
    exact = TokenizerNetwork(TOKENIZERS["tokenizer_nano_cv4x8x8"]).eval().requires_grad_(False)
    video = torch.rand(1, 3, 9, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    latent = exact.encode(video)
    pixels = exact.decode(latent)
    figures: Figures = {}
    moved = copy.deepcopy(exact).to(device)
    for tf32, tolerance in ((False, 1e-4), (True, 1e-2)):
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
            errors = [
                error_of(moved.encode(video.to(device)), latent),
                error_of(moved.decode(latent.to(device)), pixels),
            ]
        figures[f"error{' with TF32' if tf32 else ''}"] = round(max(errors), 7)
        expect(max(errors) < tolerance, f"off by {max(errors):.2g} (TF32: {tf32})")
    del moved
    preset = "tokenizer_cv8x8x8" if is_full(device) else "tokenizer_nano_cv4x8x8"
    size = (33, 704, 1280) if is_full(device) else (5, 32, 48)
    with torch.device(device):
        net = TokenizerNetwork(TOKENIZERS[preset]).bfloat16().eval().requires_grad_(False)
    clip = (torch.rand(1, 3, *size, device=device) * 2 - 1).bfloat16()
    encoded = net.encode(clip)
    decoded = net.decode(encoded)
    expect(decoded.shape == clip.shape, f"{tuple(decoded.shape)} comes back")
    expect(bool(decoded.isfinite().all()), "not all pixels are finite")
    figures["latent"] = list(encoded.shape)
    figures["encode_s"] = round(timed(lambda: net.encode(clip), device, 1), 3)
    figures["decode_s"] = round(timed(lambda: net.decode(encoded), device, 1), 3)
    figures["peak_gb"] = peak_gb(lambda: net.decode(encoded), device)
    return figures


def _wide_step(device: torch.device, **changes: Any) -> tuple[Callable[[], None], int, DiT]:
    """A forward and backward pass of two layers, its floating-point operations, and the network."""
    ensure_model_parallel()
    torch.manual_seed(0)
    thw, text_tokens = (FULL_THW, 512) if is_full(device) else ((3, 8, 8), 16)
    config = wide_config(device, **changes)
    net = DiT(config).to(device, torch.bfloat16).train()
    given = inputs_for(config, device, thw, text_tokens=text_tokens, dtype=torch.bfloat16)
    with torch.no_grad():  # a fresh network's gates are zero, and its gradients with them
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)

    def step() -> None:
        net.zero_grad(set_to_none=True)
        net(given).float().square().mean().backward()

    return step, dit_flops(config, thw, text_tokens).training, net


def _shares(step: Callable[[], None], device: torch.device) -> dict[str, float]:
    """Share of the GPU's time by kind of kernel, and the longest kernels in milliseconds."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiled:
        step()
        wait(device)
    kinds = {
        "attention": ("flash", "attention", "fmha", "sdpa"),
        "products": ("gemm", "nvjet", "cutlass"),
    }
    total, shares = 0.0, dict.fromkeys((*kinds, "elementwise"), 0.0)
    rows = [row for row in profiled.key_averages() if row.self_device_time_total > 0]
    for row in rows:
        if row.device_type.name != "CUDA":
            continue
        key = row.key.lower()
        kind = next(
            (k for k, words in kinds.items() if any(w in key for w in words)), "elementwise"
        )
        shares[kind] += row.self_device_time_total
        total += row.self_device_time_total
    return {name: round(share / max(total, 1e-9), 3) for name, share in shares.items()}
