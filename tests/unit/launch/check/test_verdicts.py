"""What the check of a cluster says of what it has found."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from nemo_cosmos.launch.check.verdicts import Findings, RankFacts, Word, judge, page

NUM_STEPS = 10


def found(num_hosts: int = 2, per_host: int = 2, **changes: Any) -> Findings:
    ranks = [
        RankFacts(
            rank=rank,
            host=f"n{rank // per_host}",
            device="H100",
            versions={"torch": "2.9", "driver": "570"},
            num_kernels=20,
            tflop_per_s=600.0,
        )
        for rank in range(num_hosts * per_host)
    ]
    fine: dict[str, Any] = {
        "within_gb_s": 300.0,
        "across_gb_s": 40.0,
        "latency_us": 20.0,
        "steps_s": [3.0] + [0.2] * (NUM_STEPS - 1),
        "reading_s": [0.01] * len(ranks),
        "losses": [1.0] * NUM_STEPS,
    }
    return Findings(ranks=ranks, **{**fine, **changes})


def changed(rank: int, **changes: Any) -> Findings:
    """What is found where one rank differs."""
    everyone = found()
    everyone.ranks[rank] = replace(everyone.ranks[rank], **changes)
    return everyone


def two(first: float, second: float) -> Findings:
    """What is found on two machines of one rank each, of some speeds."""
    both = found(2, 1)
    speeds = zip(both.ranks, (first, second), strict=True)
    both.ranks = [replace(rank, tflop_per_s=speed) for rank, speed in speeds]
    return both


def bad(findings: Findings) -> dict[str, tuple[str, str]]:
    """Verdicts that are not fine: the word and the text by the name."""
    verdicts = judge(findings, NUM_STEPS)
    return {
        each.name: (str(each.word), each.text) for each in verdicts if each.word is not Word.FINE
    }


def test_a_cluster_without_a_fault_fills_a_page():
    verdicts = judge(found(), NUM_STEPS)
    text = page(verdicts)
    assert not bad(found()) and text.endswith("Nothing is slow or wrong.")
    assert "2 machines, 4 ranks on 4 x H100" in text and "one number takes 20 us" in text
    assert len(text.splitlines()) == len(verdicts) + 1 == 8
    alone = found(1, 1, within_gb_s=None, across_gb_s=None, latency_us=None)
    assert not bad(alone) and "exchange" not in page(judge(alone, NUM_STEPS))


@pytest.mark.parametrize(
    ("findings", "name", "word", "part"),
    [
        (changed(1, device="A100"), "machines", "wrong", "3 x H100, 1 x A100"),
        (changed(3, faults=("FP8: not there.",)), "machines", "wrong", "on n1: FP8: not there."),
        (changed(2, versions={"torch": "2.9"}), "software", "wrong", "n1 has none"),
        (changed(3, wrong=("attention is off",)), "numbers", "wrong", "n1 (rank 3): attention"),
        (found(wrong_exchange=["sum over ranks is off"]), "numbers", "wrong", "sum over ranks"),
        (changed(2, tflop_per_s=300.0), "speed", "slow", "n1 (rank 2) 300"),
        (two(600.0, 400.0), "speed", "slow", "n1 (rank 1) 400"),
        (two(400.0, 600.0), "speed", "slow", "n0 (rank 0) 400"),
        (found(within_gb_s=12.0), "exchange within a machine", "slow", "nvidia-smi topo"),
        (found(across_gb_s=1.1), "exchange across machines", "slow", "cluster.ib_devices"),
        (found(error="no module"), "10 steps", "wrong", "does not train: no module"),
        (found(steps_s=[1.0]), "10 steps", "wrong", "only 1 steps"),
        (found(losses=[1.0, math.nan]), "10 steps", "wrong", "not finite"),
        (found(reading_s=[0.01, 0.01, 0.15, 0.01]), "10 steps", "slow", "n1 (rank 2) waits 0.15"),
    ],
)
def test_each_fault_is_named_with_its_machine_and_what_helps(findings, name, word, part):
    verdicts = bad(findings)
    assert list(verdicts) == [name]
    assert verdicts[name][0] == word and part in verdicts[name][1]
    assert page(judge(findings, NUM_STEPS)).endswith(f"need attention: {name}.")


def test_a_cpu_is_not_compared_with_nvlink():
    slow = found(within_gb_s=0.2, across_gb_s=0.1)
    slow.ranks = [replace(rank, device="CPU") for rank in slow.ranks]
    assert not bad(slow)
