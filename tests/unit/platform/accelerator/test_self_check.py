"""A machine that computes right passes; one that gives noise is refused, by the kernel's name."""

from __future__ import annotations

import socket

import pytest
import torch
import torch.distributed as dist

from nemo_cosmos.cli.main import main
from nemo_cosmos.errors import MachineError
from nemo_cosmos.exits import EXIT_FILE_VARIABLE
from nemo_cosmos.platform import (
    ensure_model_parallel,
    install_cpu_backend,
    kernels,
    machine,
)
from nemo_cosmos.platform.accelerator import self_check
from nemo_cosmos.platform.accelerator.self_check import (
    STORED,
    KernelCheck,
    check_kernels,
    fp8_product,
    require_right_kernels,
)


@pytest.fixture(autouse=True)
def fresh():
    install_cpu_backend()
    self_check._on_device.cache_clear()
    yield
    self_check._on_device.cache_clear()


def wrong(checks: list[KernelCheck]) -> set[str]:
    return {check.name for check in checks if not check.works}


def test_this_machine_computes_right():
    checks = check_kernels()
    assert not wrong(checks), [check.text for check in checks]
    names = {check.name for check in checks}
    for kernel in STORED:
        assert {f"{kernel}, {kind}" for kind in ("float32", "bfloat16")} <= names
        assert f"{kernel}, float64 on the host" in names
    assert require_right_kernels(checks) == checks


@pytest.mark.parametrize(
    "fault",
    [
        lambda out: torch.randn_like(out),
        lambda out: out.index_fill(0, torch.tensor([3]), float("nan")),
        lambda out: torch.zeros_like(out),
        lambda out: out.roll(1, 0),
        lambda out: out * 1.05,
    ],
    ids=["noise", "NaN", "zeros", "shifted", "scaled"],
)
def test_a_kernel_that_is_at_fault_is_named(monkeypatch, fault):
    right = kernels.attention
    monkeypatch.setattr(kernels, "attention", lambda *args, **kwargs: fault(right(*args, **kwargs)))
    assert wrong(check_kernels()) == {"attention, float32", "attention, bfloat16"}
    with pytest.raises(MachineError, match="attention, float32 is off by") as refused:
        require_right_kernels()
    assert refused.value.hosts == (socket.gethostname(),)


def test_a_fault_in_the_backward_pass_alone_is_found(monkeypatch):
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args: (grad(*args)[0] + 1,))
    assert wrong(check_kernels()) == {"gradient, float32", "gradient, bfloat16"}


def test_a_host_that_computes_another_float64_is_found(monkeypatch):
    monkeypatch.setitem(self_check._ANSWERS, "RMS norm", lambda x: x * 1.001)
    self_check._answer.cache_clear()
    try:
        assert "RMS norm, float64 on the host" in wrong(check_kernels())
    finally:
        self_check._answer.cache_clear()


def test_a_collective_that_loses_a_number_is_found(monkeypatch):
    ensure_model_parallel()
    assert {"sum over ranks", "copies of all ranks"} <= {check.name for check in check_kernels()}
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: tensor[500:501].zero_())
    assert wrong(check_kernels()) == {"sum over ranks"}


def test_fp8_products_of_numbers_that_it_holds_are_right(monkeypatch):
    assert fp8_product(torch.device("cpu")).works
    multiply = torch._scaled_mm
    monkeypatch.setattr(torch, "_scaled_mm", lambda *args, **kwargs: -multiply(*args, **kwargs))
    assert not fp8_product(torch.device("cpu")).works


def test_a_refused_machine_is_written_down_for_the_queue(monkeypatch, tmp_path):
    from nemo_cosmos.cli.house import status

    def refuse(*_: object) -> None:
        raise MachineError("Machines compute wrong numbers.", hosts=["node7"])

    monkeypatch.setattr(status, "_show_machine", refuse)
    monkeypatch.setenv(EXIT_FILE_VARIABLE, str(tmp_path / "exit"))
    with pytest.raises(SystemExit) as stop:
        main(["status", "--machine"])
    assert stop.value.code == 77
    assert (tmp_path / "exit").read_text() == "77\nnode7\n"


def test_the_report_of_a_machine_says_whether_its_numbers_are_right(monkeypatch):
    assert machine._computing()["numbers"] == "right"
    self_check._on_device.cache_clear()
    monkeypatch.setattr(kernels, "linear", lambda x, weight: torch.zeros(len(x), len(weight)))
    monkeypatch.setattr(torch.autograd, "grad", lambda *_: (torch.zeros(160, 256),))
    assert "product, float32 is off by 1 of" in machine._computing()["numbers"]
