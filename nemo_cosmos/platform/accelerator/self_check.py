"""Whether this machine computes right: small known problems, before anything is trained on it.

A driver, a library or a chip that is at fault gives noise in place of numbers, and a run that looks
well for hours. Each kernel that training stands on gets a problem here whose answer is computed in
float64 by NumPy on the host; the answers themselves are compared with stored values. Inputs come
from integers alone, so that they are the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.nn import functional as F

from nemo_cosmos.errors import MachineError
from nemo_cosmos.platform import kernels
from nemo_cosmos.platform.device import compute_capability, default_device, has_cuda
from nemo_cosmos.platform.hardware import fp8_problem
from nemo_cosmos.platform.ranks import machine_name

Array = NDArray[np.float64]

LIMITS = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Of the largest error, as a share of the largest value: a few roundings of each type."""
TF32_LIMIT = 2e-3
STORED_LIMIT = 1e-9
ROWS, INNER, COLUMNS = 192, 256, 160
LENGTH, HEADS, WIDTH = 96, 4, 32
CHANNELS, FRAMES, SIDE = 8, 5, 12
COLLECTIVE_SIZE = 1000

#: What float64 gives for each problem: the sum of its answer, weighted by cosines.
STORED: dict[str, float] = {
    "product": -80.04304161450088,
    "gradient": -478.57117197912754,
    "attention": -4.610266046908787,
    "layer norm": 148.19326776521473,
    "RMS norm": 147.40003324404609,
    "convolution": 212.27446183475445,
}


class KernelCheck(NamedTuple):
    """What became of one problem.

    Attributes:
        name: the kernel and its type, such as ``"attention, bfloat16"``.
        error: the largest error, as a share of the largest value; infinite where there is a NaN.
        limit: the largest that is right.
    """

    name: str
    error: float
    limit: float

    @property
    def works(self) -> bool:
        """Whether the kernel computes right."""
        return self.error <= self.limit

    @property
    def text(self) -> str:
        """The finding in words."""
        return (
            f"{self.name} is off by {self.error:.2g} of the largest value; "
            f"{self.limit:.2g} is allowed"
        )


def check_kernels() -> list[KernelCheck]:
    """Compute every problem on the default device; takes a fraction of a second.

    Where ``torch.distributed`` is set up, all ranks call it together, and they exchange numbers.
    """
    found = list(_on_device(default_device()))
    if dist.is_available() and dist.is_initialized():
        found += _collectives(default_device())
    return found


def require_right_kernels(checks: list[KernelCheck] | None = None) -> list[KernelCheck]:
    """Refuse machines that compute wrong numbers, on all ranks alike.

    Args:
        checks: what :func:`check_kernels` found; by default it is called.

    Returns:
        what was found.

    Raises:
        MachineError: names each machine, its kernels and by how much they are off.
    """
    checks = check_kernels() if checks is None else checks
    wrong = "; ".join(check.text for check in checks if not check.works)
    said: list[Any] = [(machine_name(), _device_name(), wrong)]
    if dist.is_available() and dist.is_initialized():
        said = [None] * dist.get_world_size()
        dist.all_gather_object(said, (machine_name(), _device_name(), wrong))
    bad = [
        (host, f"{host} (rank {rank}, {device}): {text}")
        for rank, (host, device, text) in enumerate(said)
        if text
    ]
    if bad:
        raise MachineError(
            "Machines compute wrong numbers, so nothing was trained. "
            f"{'. '.join(text for _, text in bad)}. "
            "Leave them out (sbatch --exclude), or check their driver, the versions of CUDA and "
            "torch ('nemo-cosmos status --machine') and the hardware. To train all the same, set "
            "trainer.resilience.check_machine=false.",
            hosts=sorted({host for host, _ in bad}),
        )
    return checks


@cache
def _on_device(device: torch.device) -> tuple[KernelCheck, ...]:
    """The problems of one process: once, as neither device nor libraries change in it."""
    dtypes = [torch.float32, torch.bfloat16] + ([torch.float16] if has_cuda() else [])
    with torch.inference_mode(False), torch.enable_grad():
        found = [*_host(), *(one for dtype in dtypes for one in _problems(device, dtype))]
        if not fp8_problem("tensorwise", compute_capability()):
            found.append(fp8_product(device))
    return tuple(found)


def _problems(device: torch.device, dtype: torch.dtype) -> Iterator[KernelCheck]:
    for name, compute in _COMPUTE.items():
        got = compute(device, dtype)
        yield _compared(f"{name}, {str(dtype).removeprefix('torch.')}", got, dtype, _answer(name))


def _compared(
    name: str, got: torch.Tensor, dtype: torch.dtype, answer: Array, limit: float | None = None
) -> KernelCheck:
    values = got.detach().double().cpu().numpy().reshape(answer.shape)
    error = float(np.abs(values - answer).max() / np.abs(answer).max())
    if limit is None:
        tf32 = dtype == torch.float32 and has_cuda()
        limit = TF32_LIMIT if tf32 else LIMITS[dtype]
    return KernelCheck(name, error if math.isfinite(error) else math.inf, limit)


def _host() -> Iterator[KernelCheck]:
    """The host's own float64, against what is stored."""
    for name, stored in STORED.items():
        error = abs(_digest(_answer(name)) / stored - 1)
        error = error if math.isfinite(error) else math.inf
        yield KernelCheck(f"{name}, float64 on the host", error, STORED_LIMIT)


def _digest(answer: Array) -> float:
    return float((answer.ravel() * np.cos(np.arange(answer.size))).sum())


def _numbers(*shape: int, seed: int) -> Array:
    """Numbers from -1 to below 1 that look random: a hash of each place, in whole numbers.

    They are multiples of 1/128, which every type here but FP8 holds exactly.
    """
    words = np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(seed << 32)
    for shift in (30, 27):  # the finaliser of splitmix64
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(0xBF58476D1CE4E5B9)
    return ((words >> np.uint64(40)) % np.uint64(256)).astype(np.float64).reshape(shape) / 128 - 1


def _input(values: Array, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(values).to(device=device, dtype=dtype)


@cache
def _inputs(name: str) -> tuple[Array, ...]:
    shapes = {
        "product": ((ROWS, INNER), (COLUMNS, INNER)),
        "gradient": ((ROWS, INNER), (COLUMNS, INNER), (ROWS, COLUMNS)),
        "attention": ((LENGTH, 1, HEADS, WIDTH),) * 3,
        "layer norm": ((ROWS, INNER),),
        "RMS norm": ((ROWS, INNER),),
        "convolution": ((1, CHANNELS, FRAMES, SIDE, SIDE), (CHANNELS, CHANNELS, 3, 3, 3)),
    }[name]
    inputs = [_numbers(*shape, seed=number) for number, shape in enumerate(shapes)]
    if name == "attention":
        inputs[0] = inputs[0] * 8  # else each query would see all keys alike
    return tuple(inputs)


@cache
def _answer(name: str) -> Array:
    return _ANSWERS[name](*_inputs(name))


def _attention_answer(q_LBHD: Array, k_LBHD: Array, v_LBHD: Array) -> Array:
    scores = np.einsum("lbhd,mbhd->bhlm", q_LBHD, k_LBHD) / math.sqrt(q_LBHD.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhlm,mbhd->lbhd", weights, v_LBHD)


def _layer_norm_answer(x: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6))


def _rms_norm_answer(x: Array) -> Array:
    return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6))


def _convolution_answer(x: Array, weight: Array) -> Array:
    num_frames, height, width = (size - 2 for size in x.shape[2:])
    total = np.zeros((1, weight.shape[0], num_frames, height, width))
    for t, h, w in np.ndindex(3, 3, 3):
        window = x[:, :, t : t + num_frames, h : h + height, w : w + width]
        total += np.einsum("oc,bcthw->bothw", weight[:, :, t, h, w], window)
    return total


_ANSWERS: dict[str, Callable[..., Array]] = {
    "product": lambda x, weight: x @ weight.T,
    "gradient": lambda x, weight, factors: factors.T @ x,
    "attention": _attention_answer,
    "layer norm": _layer_norm_answer,
    "RMS norm": _rms_norm_answer,
    "convolution": _convolution_answer,
}


def _tensors(name: str, device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
    return [_input(values, device, dtype) for values in _inputs(name)]


def _product(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return kernels.linear(*_tensors("product", device, dtype))


def _gradient(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    x, weight, factors = _tensors("gradient", device, dtype)
    weight.requires_grad_()
    return torch.autograd.grad(kernels.linear(x, weight), weight, factors)[0]


def _attention(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return kernels.attention(*_tensors("attention", device, dtype))


def _layer_norm(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    (x,) = _tensors("layer norm", device, dtype)
    return F.layer_norm(x, (INNER,), eps=1e-6)


def _rms_norm(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    (x,) = _tensors("RMS norm", device, dtype)
    return F.rms_norm(x, (INNER,), eps=1e-6)


def _convolution(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    x, weight = _tensors("convolution", device, dtype)
    return F.conv3d(x, weight)


_COMPUTE: dict[str, Callable[[torch.device, torch.dtype], torch.Tensor]] = {
    "product": _product,
    "gradient": _gradient,
    "attention": _attention,
    "layer norm": _layer_norm,
    "RMS norm": _rms_norm,
    "convolution": _convolution,
}


def fp8_product(device: torch.device) -> KernelCheck:
    """A product in FP8 (e4m3) of numbers that it holds exactly.

    Args:
        device: a GPU with FP8, or the CPU, which emulates it.
    """
    x, weight = (
        np.round(_numbers(rows, 64, seed=seed) * 8) / 4 for seed, rows in enumerate((32, 48))
    )
    fp8 = torch.float8_e4m3fn
    one = torch.ones((), device=device)
    got = torch._scaled_mm(
        _input(x, device, torch.float32).to(fp8),
        _input(weight, device, torch.float32).to(fp8).t(),
        scale_a=one,
        scale_b=one,
        out_dtype=torch.bfloat16,
    )
    return _compared("product, FP8 e4m3", got, torch.bfloat16, x @ weight.T)


def _collectives(device: torch.device) -> list[KernelCheck]:
    """A sum over all ranks and a copy of each rank's numbers."""
    size, rank = dist.get_world_size(), dist.get_rank()
    own = [_numbers(COLLECTIVE_SIZE, seed=number) for number in range(size)]
    total = _input(own[rank], device, torch.float32)
    parts = [torch.empty_like(total) for _ in range(size)]
    dist.all_gather(parts, total)
    gathered = torch.stack(parts)
    dist.all_reduce(total)
    summed, limit = np.sum(own, axis=0), LIMITS[torch.float32]
    return [
        _compared("sum over ranks", total, torch.float32, summed, limit),
        _compared("copies of all ranks", gathered, torch.float32, np.stack(own), limit),
    ]


def _device_name() -> str:
    return torch.cuda.get_device_name() if has_cuda() else "CPU"
