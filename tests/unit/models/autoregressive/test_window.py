"""Windows that are measured while decoding, and guesses that are taken because they are typical."""

from __future__ import annotations

import math

import pytest
import torch

from nemo_cosmos.models.autoregressive.decoding.drafts import Drafts
from nemo_cosmos.models.autoregressive.decoding.loops import Job, decode_jacobi, decode_plain
from nemo_cosmos.models.autoregressive.decoding.medusa import decode_medusa
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling, is_typical
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.decoding.tree import Tree, grow_tree
from nemo_cosmos.models.autoregressive.decoding.window import (
    TRIES,
    MeasuredWindow,
    tried_windows,
)
from nemo_cosmos.models.autoregressive.heads.module import Heads

CPU = torch.device("cpu")
GRID = (3, 3, 4)
NUM_CODES = 36


@pytest.mark.parametrize(
    ("codes", "seconds", "best"),
    [
        ({1: 1, 16: 6, 32: 8}, {1: 1.0, 16: 2.0, 32: 2.5}, 32),
        ({1: 1, 16: 6, 32: 8}, {1: 1.0, 16: 2.0, 32: 4.0}, 16),
        ({1: 1, 16: 1, 32: 1}, {1: 1.0, 16: 1.1, 32: 1.2}, 1),
    ],
)
def test_the_window_with_the_most_codes_a_second_is_chosen(
    codes: dict[int, int], seconds: dict[int, float], best: int
) -> None:
    window = MeasuredWindow(list(codes), CPU)
    tried = []
    for number in range(TRIES * len(codes)):
        assert window.chosen is None
        tried.append(window.size)
        late = 100.0 if number == 0 else 0.0  # a pass that something interrupted
        window.saw(window.size, codes[window.size], seconds[window.size] + late)
    assert tried[: len(codes)] == list(codes), "in turns, so that no size has the easy places"
    assert window.size == window.chosen == best
    window.saw(best, 0, 100.0)
    assert window.size == best, "it stays"


def test_windows_that_change_while_decoding_change_no_code(build) -> None:
    net = build()
    given = torch.arange(4)
    for seed in range(8):
        job = Job([given, given[:1]], [NUM_CODES, 31], [seed, seed + 50], Sampling(top_p=0.9))
        plain = decode_plain(Scorer(net, GRID, 2), job)
        window = MeasuredWindow([1, 3, 12], CPU)
        scorer = Scorer(net, GRID, 2, spare=window.largest)
        found = decode_jacobi(scorer, job, window, Drafts("frame", GRID, 40))
        assert all(map(torch.equal, found.codes, plain.codes))
        assert found.num_passes <= plain.num_passes
    assert tried_windows(CPU, 20) == (1, 16, 20) and tried_windows(CPU, 1) == (1,)


def test_a_guess_is_typical_by_the_published_thresholds() -> None:
    flat, peaked = torch.zeros(10), torch.tensor([0.9] + [0.1 / 9] * 9).log()
    logits_NV = torch.stack([flat, flat[:], peaked, peaked])
    found = is_typical(logits_NV, torch.tensor([0, 7, 0, 1]), Sampling())
    # exp(-log 10) * 0.09 = 0.009 < 0.1: everything is typical of a flat distribution.
    assert found.tolist() == [True, True, True, False]
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1 / 9))
    assert 0.1 / 9 < 0.09 * math.exp(-entropy) < 0.9
    kept = is_typical(logits_NV[2:], torch.tensor([0, 1]), Sampling(top_p=0.5))
    assert kept.tolist() == [True, False], "what top-p leaves out is never typical"


def test_the_longest_accepted_path_is_followed() -> None:
    tree = Tree((-1, 0, 0, 2, 1, 3, 2), (0, 0, 1, 0, 0, 0, 1))
    assert tree.follow_accepted([True] * 7, 9) == [0, 2, 3, 5]
    assert tree.follow_accepted([True] * 7, 2) == [0, 1], "of several, the best guess"
    assert tree.follow_accepted([True, True, False, True, False, True, True], 9) == [0, 1]
    assert tree.follow_accepted([False] * 7, 9) == [0]
    assert tree.follow_accepted([True] * 7, 0) == []


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_typical_acceptance_saves_passes_and_is_exact_only_without_chance(
    build, temperature: float
) -> None:
    net = build()
    heads = Heads(3, net.config.hidden_size).requires_grad_(False)
    tree = grow_tree([[0.5, 0.4, 0.3]] * 3, 20)
    sampling = Sampling(temperature)
    job = Job([torch.arange(4), torch.arange(1)], [NUM_CODES, 31], [1, 2], sampling)
    plain = decode_plain(Scorer(net, GRID, 2), job)

    def decode(is_lossy: bool):
        scorer = Scorer(net, GRID, 2, spare=tree.num_nodes)
        return decode_medusa(scorer, job, heads, lambda _: tree, is_lossy=is_lossy)

    exact, lossy = decode(is_lossy=False), decode(is_lossy=True)
    assert all(map(torch.equal, exact.codes, plain.codes))
    same = all(map(torch.equal, lossy.codes, plain.codes))
    assert [len(codes) for codes in lossy.codes] == [NUM_CODES, 31]
    if temperature:
        assert not same and lossy.num_passes < exact.num_passes
    else:
        assert same and lossy.num_passes == exact.num_passes
