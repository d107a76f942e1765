"""Speculative coupling draws from exactly the probabilities of one code after the other."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from scipy.stats import chisquare

from nemo_cosmos.models.autoregressive.decoding.coupled import couple, decode_coupled
from nemo_cosmos.models.autoregressive.decoding.drafts import Drafts
from nemo_cosmos.models.autoregressive.decoding.loops import Decoded, Job, decode_plain
from nemo_cosmos.models.autoregressive.decoding.noise import PlaceNoise
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling, probabilities
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork, TokenInput

GRID = (2, 1, 2)  # one given frame of two codes, and two to draw
NUM_VIDEOS = 3000


def decode(net: ARNetwork, job: Job, window: int, drafts: str = "frame") -> Decoded:
    scorer = Scorer(net, GRID, len(job.given), spare=window)
    return decode_coupled(scorer, job, window, Drafts(drafts, GRID, net.config.vocab_size))


def enumerated(net: ARNetwork, given: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The exact probability of each pair of codes, of the 9 that there are."""
    table = net.place_table(GRID, torch.device("cpu"))
    shares = []
    for pair in product(range(3), repeat=2):
        tokens = torch.cat([given, torch.tensor(pair)])[None, :3]
        with torch.no_grad():
            logits = net(TokenInput(tokens, table.at(torch.arange(3))))[1:, 0, :3]
        step = probabilities(logits, sampling)
        shares.append(step[0, pair[0]] * step[1, pair[1]])
    return torch.stack(shares).double()


@pytest.mark.parametrize(
    ("sampling", "drafts"),
    [(Sampling(), "frame"), (Sampling(0.7), "random"), (Sampling(1.4, top_p=0.9), "last")],
)
def test_frequencies_are_the_enumerated_probabilities(
    build, sampling: Sampling, drafts: str
) -> None:
    net = build(vocab_size=3)
    given = torch.tensor([2, 0])
    expected = enumerated(net, given, sampling)
    assert expected.sum() == pytest.approx(1.0, abs=1e-5)
    job = Job([given] * NUM_VIDEOS, [4] * NUM_VIDEOS, list(range(NUM_VIDEOS)), sampling)
    found = decode(net, job, 2, drafts)
    counts = torch.bincount(
        torch.stack([3 * codes[2] + codes[3] for codes in found.codes]), minlength=9
    )
    can = expected > 0
    assert not counts[~can].any()
    wanted = NUM_VIDEOS * expected[can] / expected.sum()
    assert chisquare(counts[can], wanted).pvalue > 1e-3


def test_a_coupling_has_both_marginals_and_keeps_most() -> None:
    """Guesses drawn from p become codes distributed as q, and stay in all but their distance."""
    old_V, new_V = torch.tensor([0.5, 0.3, 0.2, 0.0]), torch.tensor([0.2, 0.3, 0.4, 0.1])
    num = 40_000
    generator = torch.Generator().manual_seed(0)
    guess_N = torch.multinomial(old_V, num, replacement=True, generator=generator)
    place_N, video_N = torch.arange(num), torch.zeros(num, dtype=torch.int64)
    drawn_N = couple(
        old_V.expand(num, -1), new_V.expand(num, -1), guess_N, PlaceNoise([5]), video_N, place_N, 1
    )
    counts = torch.bincount(drawn_N, minlength=4).double()
    assert chisquare(counts, num * new_V.double() / new_V.double().sum()).pvalue > 1e-3
    distance = (old_V - new_V).abs().sum() / 2
    assert (drawn_N == guess_N).float().mean() == pytest.approx(1 - float(distance), abs=0.01)


def test_it_is_greedy_decoding_at_temperature_zero(build) -> None:
    net = build()
    job = Job([torch.tensor([3, 8])] * 2, [4, 3], [1, 2], Sampling(temperature=0.0))
    plain = decode_plain(Scorer(net, GRID, 2), job)
    coupled = decode(net, job, 2)
    assert all(map(torch.equal, coupled.codes, plain.codes))
    assert coupled.num_passes <= plain.num_passes
