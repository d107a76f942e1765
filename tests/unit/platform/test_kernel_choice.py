"""The library that computes a class of problems is measured once and stays."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nemo_cosmos.cache import CACHE_VARIABLE
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import kernel_choice, kernels
from nemo_cosmos.platform.kernel_choice import Timing, library_for

Contests = Callable[[], dict[str, kernel_choice.Contest]]


class Rivals:
    """Two stand-ins for libraries, and how often they were measured."""

    def __init__(self, torch_s: float, onednn_s: float) -> None:
        self.seconds = {"torch": torch_s, "onednn": onednn_s}
        self.num_measured = 0

    def __call__(self) -> dict[str, kernel_choice.Contest]:
        self.num_measured += 1
        sides = [lambda s=s: _work(s) for s in self.seconds.values()]
        return {"product": (sides[0], sides[1])}


def _work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv(kernel_choice.VARIABLE, "measured")
    another_process()
    return tmp_path


def another_process() -> None:
    """Forget what this process has read."""
    kernel_choice.timings.cache_clear()
    kernel_choice._library_for.cache_clear()


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "kernels").glob("*.json"))


@pytest.mark.parametrize(("onednn_s", "winner"), [(0.001, "onednn"), (0.009, "torch")])
def test_the_faster_library_is_chosen(onednn_s: float, winner: str) -> None:
    assert library_for("product", Rivals(0.003, onednn_s)) == winner


def test_a_tie_is_torchs() -> None:
    assert Timing(1.0, 0.93).library == "torch"
    assert Timing(1.0, 0.85).library == "onednn"


def test_what_was_measured_stays_for_every_later_process(fresh: Path) -> None:
    assert library_for("product", Rivals(0.003, 0.001)) == "onednn"
    another_process()  # on a machine that is now busy
    later = Rivals(0.001, 0.003)
    assert library_for("product", later) == "onednn"
    assert later.num_measured == 0
    assert json.loads(kept(fresh)[0].read_text())["torch"] == torch.__version__
    assert not list((fresh / "kernels").glob(".tmp-*"))


def test_another_number_of_threads_is_another_machine(fresh: Path) -> None:
    rivals = Rivals(0.001, 0.001)
    for num_threads in (1, 2, 1):
        kernel_choice.timings(num_threads, rivals, fresh)
    assert rivals.num_measured == len(kept(fresh)) == 2


def test_processes_that_start_together_measure_once(fresh: Path) -> None:
    children = []
    for _ in range(3):
        if (child := os.fork()) == 0:
            rivals = Rivals(0.002, 0.001)
            chosen = library_for("product", rivals)
            os._exit(rivals.num_measured if chosen == "onednn" else 99)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [0, 0, 1]


def test_a_damaged_file_is_measured_again(fresh: Path) -> None:
    library_for("product", Rivals(0.003, 0.001))
    kept(fresh)[0].write_text('{"timings": [')
    another_process()
    again = Rivals(0.001, 0.003)
    assert library_for("product", again) == "torch"
    assert again.num_measured == 1


def test_where_it_cannot_be_kept_torch_computes(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fresh / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(fresh / "file"))
    rivals = Rivals(0.003, 0.001)
    assert library_for("product", rivals) == "torch"
    assert rivals.num_measured == 0


@pytest.mark.parametrize("chosen", ["torch", "onednn"])
def test_the_setting_measures_nothing(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernel_choice.VARIABLE, chosen)
    rivals = Rivals(0.001, 0.001)
    assert library_for("product", rivals) == chosen
    assert rivals.num_measured == 0


def test_an_unknown_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernel_choice.VARIABLE, "mkl")
    with pytest.raises(ConfigError, match=r"KERNELS=mkl is unknown.*'torch'"):
        kernel_choice.setting()


def test_measuring_leaves_the_run_as_it_was(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its random numbers, its gradient mode and the operators that it counts."""
    monkeypatch.setattr(kernel_choice, "_REPEATS", 1)
    before = torch.get_rng_state()
    x, weight = torch.ones(512, 128), torch.ones(128, 128)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        kernels.linear(x, weight)
    assert torch.equal(torch.get_rng_state(), before)
    assert counter.get_total_flops() <= 2 * 512 * 128 * 128
    assert len(kernels.measured()) == 6


def test_both_libraries_compute_the_same_but_for_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.randn(512, 128), torch.randn(128, 128)
    q = torch.randn(384, 1, 2, 64)
    found = []
    for chosen in ("torch", "onednn"):
        monkeypatch.setenv(kernel_choice.VARIABLE, chosen)
        found.append((kernels.linear(x, weight), kernels.attention(q, q, q)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
