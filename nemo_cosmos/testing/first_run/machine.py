"""Checks 1 to 3: the machine, the imports, and the tests that need a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from nemo_cosmos.testing.first_run.kit import (
    Figures,
    Skipped,
    error_of,
    expect,
    is_full,
    needs_gpu,
    timed,
)

TESTS = Path("tests/gpu")


def versions_and_ceilings(device: torch.device) -> Figures:
    """Versions, and what products and copies reach at best."""
    from nemo_cosmos.platform.accelerator.facts import read_facts
    from nemo_cosmos.platform.accelerator.findings import TORCH, findings

    facts = read_facts()
    found = {each.name: each for each in findings(facts)}
    expect(found[TORCH].works, found[TORCH].text)
    size = 8192 if is_full(device) else 128
    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    product_s = timed(lambda: left @ right, device, 10)
    error = error_of((left[:64] @ right), left[:64].double() @ right.double())
    expect(error < 0.01, f"a bfloat16 product is off by {error:.4f}")
    source = torch.empty(2**31 if is_full(device) else 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = timed(lambda: target.copy_(source), device, 10)
    tflops, gb_s = 2 * size**3 / product_s / 1e12, 2 * source.numel() / copy_s / 1e9
    if is_full(device) and "H200" in torch.cuda.get_device_name(device):
        expect(tflops > 600, f"products reach {tflops:.0f} TFLOP/s")
        expect(gb_s > 3500, f"copies reach {gb_s:.0f} GB/s")
    return {
        "findings": {name: each.text for name, each in found.items()},
        "product_tflops": round(tflops, 2),
        "copy_gb_s": round(gb_s, 1),
    }


def platform_and_process_groups(device: torch.device) -> Figures:
    """The CPU backend keeps off a GPU, and one process has its groups."""
    import torch.distributed as dist
    from megatron.core import parallel_state

    from nemo_cosmos.platform import collective_backend, ensure_model_parallel, install_cpu_backend

    patched = install_cpu_backend()
    expect(patched is (device.type == "cpu"), f"install_cpu_backend() is {patched}")
    ensure_model_parallel()
    backend = dist.get_backend()
    expect(backend == collective_backend(), f"the groups' backend is {backend}")
    total = torch.ones(4, device=device)
    dist.all_reduce(total, group=parallel_state.get_tensor_model_parallel_group())
    expect(bool((total == 1).all()), "a sum over one rank changes it")
    return {"backend": backend}


def tests_on_the_gpu(device: torch.device) -> Figures:
    """The tests of ``tests/gpu``, in a process of their own."""
    needs_gpu(device, "on a CPU the suite runs them")
    if not TESTS.is_dir():
        raise Skipped(f"start it in the repository's root: there is no {TESTS} here")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider"]
    command += [str(TESTS / name) for name in ("test_cuda.py", "test_noise.py", "test_specs.py")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = ran.stdout.strip().splitlines()
    expect(ran.returncode == 0, " | ".join(lines[-12:])[-1500:])
    return {"summary": lines[-1]}
