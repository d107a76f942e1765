"""Devices, optional packages and process groups."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from nemo_cosmos import platform
from nemo_cosmos.errors import ConfigError, MissingDependencyError


def test_importing_the_room_does_not_import_torch() -> None:
    code = "import sys, nemo_cosmos.platform; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_everything_public_is_there() -> None:
    assert all(hasattr(platform, name) for name in platform.__all__)


@pytest.mark.parametrize("cuda", [False, True])
def test_one_question_decides_device_and_backend(
    cuda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert platform.has_cuda() is cuda
    assert platform.default_device() == torch.device("cuda:1" if cuda else "cpu")
    assert platform.collective_backend() == ("nccl" if cuda else "gloo")


def test_the_cpu_backend_keeps_off_a_machine_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    current_device = torch.cuda.current_device
    assert platform.install_cpu_backend() is False
    assert torch.cuda.current_device is current_device


@pytest.fixture
def tf32() -> Iterator[None]:
    """Torch's own settings, before the test and after it."""
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    convolutions.allow_tf32, products.allow_tf32 = True, False
    yield
    convolutions.allow_tf32, products.allow_tf32 = True, False


@pytest.mark.parametrize(("chosen", "rounds"), [(None, False), ("0", False), ("1", True)])
def test_float32_is_float32_on_cuda_unless_asked_otherwise(
    tf32: None, monkeypatch: pytest.MonkeyPatch, chosen: str | None, rounds: bool
) -> None:
    if chosen is not None:
        monkeypatch.setenv("NEMO_COSMOS_TF32", chosen)
    platform.install_cpu_backend()
    assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is rounds


def test_a_precision_that_is_unknown(tf32: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMO_COSMOS_TF32", "yes")
    with pytest.raises(ConfigError, match="NEMO_COSMOS_TF32=yes"):
        platform.set_float32_kernels()


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32", None),
        ("32-true", None),
        ("bf16-mixed", torch.bfloat16),
        ("bf16-true", torch.bfloat16),
        ("16-mixed", torch.float16),
    ],
)
def test_autocast_dtype(precision: str, dtype: torch.dtype | None) -> None:
    assert platform.autocast_dtype(precision) == dtype


def test_autocast() -> None:
    ones = torch.ones(2, 2, device=platform.default_device())
    with platform.autocast(torch.bfloat16):
        assert (ones @ ones).dtype == torch.bfloat16
    with platform.autocast(None):
        assert (ones @ ones).dtype == torch.float32


def test_require() -> None:
    assert platform.require("json").__name__ == "json"
    assert platform.has("json")
    assert not platform.has("no_such_parent.child")
    with pytest.raises(MissingDependencyError, match=r"reading tea leaves.*pip install tasseogra"):
        platform.require("tasseography", purpose="reading tea leaves")


@pytest.mark.skipif(platform.has("transformer_engine"), reason="it is installed")
def test_require_names_the_extra() -> None:
    with pytest.raises(MissingDependencyError, match=r"FP8.*nemo-cosmos\[gpu\]"):
        platform.require("transformer_engine")


@pytest.fixture
def _afterwards() -> Iterator[None]:
    """Leave the process groups as other tests in this process expect them."""
    yield
    platform.shutdown_model_parallel()
    platform.ensure_model_parallel()


@pytest.mark.usefixtures("_afterwards")
def test_model_parallel_can_be_set_up_again_and_again() -> None:
    from megatron.core import parallel_state

    platform.shutdown_model_parallel()
    platform.shutdown_model_parallel()
    assert not torch.distributed.is_initialized()
    for _ in range(2):
        platform.ensure_model_parallel()
        platform.ensure_model_parallel()
        assert parallel_state.get_tensor_model_parallel_world_size() == 1
        platform.shutdown_model_parallel()


@pytest.mark.usefixtures("_afterwards")
def test_model_parallel_sizes_are_checked() -> None:
    platform.shutdown_model_parallel()
    with pytest.raises(ConfigError, match="tp=2 x pp=1 x cp=1 does not divide the 1 processes"):
        platform.ensure_model_parallel(tp=2)
    platform.ensure_model_parallel()
    with pytest.raises(ConfigError, match=r"set up with tp=1.*but tp=1, pp=2"):
        platform.ensure_model_parallel(pp=2)


@pytest.mark.usefixtures("_afterwards")
def test_weights_are_the_same_after_every_set_up() -> None:
    draws = []
    for _ in range(2):
        platform.shutdown_model_parallel()
        platform.ensure_model_parallel(seed=5)
        draws.append(torch.rand(3))
    assert torch.equal(*draws)
