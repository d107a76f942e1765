"""The slowest rank is named with its machine, in the log and in the metrics."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from nemo_cosmos.platform.device import mark, seconds_between
from nemo_cosmos.training.callbacks.slow_ranks import SlowRanks


@pytest.fixture
def compare(monkeypatch):
    def run(times_s, step=20, **settings):
        """One comparison, as the first rank sees it; what was logged."""
        callback = SlowRanks(every_n_steps=10, **settings)
        callback._hosts = [f"node{rank}" for rank in range(len(times_s))]
        callback._spans = [(0.0, times_s[0]), (1.0, 1.0 + times_s[0])]
        everyone = torch.tensor(times_s)
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda mine: mine.copy_(everyone))
        trainer = SimpleNamespace(
            world_size=len(times_s), global_rank=0, global_step=step, is_global_zero=True,
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
        )  # fmt: skip
        logged: dict[str, float] = {}
        module = SimpleNamespace(log=lambda name, value, **_: logged.update({name: value}))
        callback.on_train_batch_end(trainer, module)
        return logged

    return run


def test_the_slowest_rank_is_named(compare, caplog):
    logged = compare([0.5, 0.5, 0.9, 0.5])
    assert logged["slowest_rank"] == 2
    assert logged["slowest_rank_time_s"] == pytest.approx(0.9)
    assert logged["median_rank_time_s"] == pytest.approx(0.5)
    assert "Rank 2 on 'node2' is slow: 0.9 s a step" in caplog.text
    assert "median is 0.5 s" in caplog.text and "up to step 20" in caplog.text


def test_of_two_ranks_the_faster_is_the_measure(compare, caplog):
    compare([0.5, 0.9])
    assert "Rank 1 on 'node1' is slow" in caplog.text


def test_ranks_that_are_about_as_fast_are_not_named(compare, caplog):
    assert compare([0.5, 0.55, 0.5])["slowest_rank"] == 1
    assert not caplog.text
    compare([0.5, 0.55, 0.5], factor=1.05)
    assert "Rank 1" in caplog.text


def test_between_the_comparisons_nothing_is_exchanged(compare):
    assert compare([0.5, 0.9], step=21) == {}


def test_moments_lie_apart():
    first = mark()
    assert seconds_between(first, mark()) >= 0
