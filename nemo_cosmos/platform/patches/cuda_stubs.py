"""The few ``torch.cuda`` names that Megatron-Core calls whatever the device, as CPU functions.

Each name gets a function object of its own: ``torch._dynamo`` keeps a table of these functions and
rejects one object under two names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

CPU = torch.device("cpu")


class Stream:
    """A stand-in for ``torch.cuda.Stream`` and its events: work on a CPU is already in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def synchronize(self) -> None:
        """Nothing is outstanding."""

    def wait_stream(self, stream: object) -> None:
        """Nothing to wait for."""

    def wait_event(self, event: object) -> None:
        """Nothing to wait for."""

    def record_event(self, event: Event | None = None) -> Event:
        """Return the event; it has happened."""
        return event or Event()

    def query(self) -> bool:
        """All work is done."""
        return True


class Event:
    """A stand-in for ``torch.cuda.Event``: it has always happened."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs

    def record(self, stream: object = None) -> None:
        """Nothing to record."""

    def wait(self, stream: object = None) -> None:
        """Nothing to wait for."""

    def synchronize(self) -> None:
        """Nothing is outstanding."""

    def query(self) -> bool:
        """The event has happened."""
        return True

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds to ``other``: not measured on a CPU."""
        del other
        return 0.0


def _returning(value: object) -> Callable[..., object]:
    def stub(*args: object, **kwargs: object) -> object:
        del args, kwargs
        return value

    return stub


def _seed(seed: int) -> None:
    torch.default_generator.manual_seed(int(seed))


def _seed_all(seed: int) -> None:
    torch.default_generator.manual_seed(int(seed))


def _get_rng_state(device: object = None) -> torch.Tensor:
    del device
    return torch.get_rng_state()


def _set_rng_state(new_state: torch.Tensor, device: object = None) -> None:
    del device
    torch.set_rng_state(new_state)


@contextlib.contextmanager
def _no_context(*args: object, **kwargs: object) -> Iterator[None]:
    del args, kwargs
    yield


def _stay(tensor: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
    del args, kwargs
    return tensor


def _stay_module(module: torch.nn.Module, device: object = None) -> torch.nn.Module:
    del device
    return module


def patch_torch_cuda() -> None:
    """Replace the ``torch.cuda`` names that Megatron-Core calls by functions that work on a CPU.

    ``.cuda()`` of a tensor or module leaves it where it is. What Megatron-Core asks of
    ``torch.cuda.is_available`` and ``device_count`` stays true: there is no GPU.
    """
    cuda: Any = torch.cuda
    for name in ("set_device", "synchronize", "empty_cache", "ipc_collect"):
        setattr(cuda, name, _returning(None))
    cuda.reset_peak_memory_stats = _returning(None)
    for name in ("memory_allocated", "max_memory_allocated", "memory_reserved"):
        setattr(cuda, name, _returning(0))
    cuda.max_memory_reserved = _returning(0)
    cuda.current_device = _returning(CPU)  # Megatron-Core only ever passes it on as ``device=``
    cuda.is_current_stream_capturing = _returning(False)
    cuda.nvtx.range_push, cuda.nvtx.range_pop = _returning(None), _returning(None)
    cuda.manual_seed, cuda.manual_seed_all = _seed, _seed_all
    cuda.get_rng_state = cuda.random.get_rng_state = _get_rng_state
    cuda.set_rng_state = cuda.random.set_rng_state = _set_rng_state
    cuda.Stream, cuda.Event = Stream, Event
    stream = Stream()
    cuda.current_stream, cuda.default_stream = _returning(stream), _returning(stream)
    cuda.stream, cuda.device = _no_context, _no_context
    torch.Tensor.cuda = _stay  # type: ignore[method-assign, assignment]
    torch.nn.Module.cuda = _stay_module  # type: ignore[method-assign, assignment]
