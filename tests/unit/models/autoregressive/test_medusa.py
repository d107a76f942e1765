"""Trees of guesses draw the same codes as one after the other, and leave the same cache."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.decoding.drafts import Drafts
from nemo_cosmos.models.autoregressive.decoding.guesses import Guesser
from nemo_cosmos.models.autoregressive.decoding.loops import Job, decode_jacobi, decode_plain
from nemo_cosmos.models.autoregressive.decoding.medusa import decode_medusa
from nemo_cosmos.models.autoregressive.decoding.noise import PlaceNoise
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling, draw, draw_best
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.decoding.sequences import Sequences
from nemo_cosmos.models.autoregressive.decoding.tree import Tree, expected_codes, grow_tree
from nemo_cosmos.models.autoregressive.decoding.window import best_tree, pass_seconds
from nemo_cosmos.models.autoregressive.heads.module import Heads
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork
from nemo_cosmos.models.common.attention.cache import KeyValueCache

GRID = (3, 3, 4)
NUM_CODES = 36
NUM_HEADS, NUM_RANKS = 4, 3
SAMPLINGS = (
    Sampling(),
    Sampling(temperature=0.0),
    Sampling(temperature=0.7, top_k=6),
    Sampling(top_k=12, top_p=0.9),
)
TREES = (
    Tree(),
    Tree((-1, 0, 1, 2, 3), (0,) * 5),  # a chain
    Tree((-1, 0, 0, 0), (0, 0, 1, 2)),  # one level
    Tree((-1, 0, 0, 2, 1, 3, 2, 5), (0, 0, 2, 1, 0, 0, 2, 1)),
    grow_tree([[0.4, 0.3, 0.2]] * NUM_HEADS, 40),
)


def random_heads(net: ARNetwork, scale: float = 0.3) -> Heads:
    heads = Heads(NUM_HEADS, net.config.hidden_size).requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for parameter in heads.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return heads


def prompts(net: ARNetwork, *counts: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(net.config.vocab_size, (n,), generator=generator) for n in counts]


def texts(net: ARNetwork, batch: int, guidance: float) -> dict[str, object]:
    if not net.config.context_channels:
        return {}
    generator = torch.Generator().manual_seed(2)
    text, negative = torch.randn(2, batch, 5, net.config.context_channels, generator=generator)
    return {"text_BMC": text, "negative_BMC": negative, "guidance": guidance}


def some_job(net: ARNetwork, sampling: Sampling, first_seed: int) -> Job:
    totals = [NUM_CODES, 30, NUM_CODES, 17, NUM_CODES, NUM_CODES]
    seeds = list(range(first_seed, first_seed + len(totals)))
    return Job(prompts(net, 12, 12, 1, 5, 35, 20), totals, seeds, sampling)


def check_same(
    net: ARNetwork, job: Job, tree: Tree, heads: Heads, guidance: float = 0.0
) -> tuple[int, int]:
    """Decode in both ways; returns passes of the plain one, and of the tree."""
    batch = len(job.given)
    more = texts(net, batch, guidance)
    scorer = Scorer(net, GRID, batch, **more)  # type: ignore[arg-type]
    plain = decode_plain(scorer, job)
    by_tree = Scorer(net, GRID, batch, spare=tree.num_nodes, **more)  # type: ignore[arg-type]
    found = decode_medusa(by_tree, job, heads, lambda _: tree)
    assert all(map(torch.equal, found.codes, plain.codes)), tree
    assert found.num_drawn == plain.num_drawn and found.num_passes <= plain.num_passes
    check_same_cache(by_tree.cache, scorer.cache)
    return plain.num_passes, found.num_passes


def check_same_cache(cache: KeyValueCache, expected: KeyValueCache) -> None:
    assert cache.lengths == expected.lengths
    for sample, length in enumerate(expected.lengths):
        torch.testing.assert_close(
            cache.store_N2BGMD[:, :, sample, :, :length],
            expected.store_N2BGMD[:, :, sample, :, :length],
            atol=1e-4,
            rtol=1e-4,
        )


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_trees_of_any_shape_give_the_same_codes(build, sampling: Sampling) -> None:
    net = build()
    heads = random_heads(net)
    for number, tree in enumerate(TREES):
        check_same(net, some_job(net, sampling, 6 * number), tree, heads)


@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_trees_with_text_and_guidance_and_nothing_given(build, guidance: float) -> None:
    net = build(text=True)
    job = Job(prompts(net, 0, 12), [NUM_CODES] * 2, [1, 9], Sampling(top_p=0.9))
    for tree in TREES[1:]:
        check_same(net, job, tree, random_heads(net), guidance)


class KnowsMore(Guesser):
    """Puts the right code at a rank of its own for each place, often."""

    right: Sequence[torch.Tensor]

    def guess(
        self, x_LBE: torch.Tensor, last: Sequence[int], sequences: Sequences, num_ranks: int
    ) -> torch.Tensor:
        guess_KBR = super().guess(x_LBE, last, sequences, num_ranks)
        for video, known in enumerate(sequences.known):
            for head in range(len(guess_KBR)):
                chance = random.Random(1000 * video + known + head)
                if known + head < len(self.right[video]) and chance.random() < 0.9:
                    rank = chance.randrange(num_ranks)
                    guess_KBR[head, video, rank] = self.right[video][known + head]
        return guess_KBR


def test_long_paths_over_any_branch_are_kept(build, monkeypatch: pytest.MonkeyPatch) -> None:
    net = build()
    job = some_job(net, Sampling(), 50)
    KnowsMore.right = decode_plain(Scorer(net, GRID, len(job.given)), job).codes
    monkeypatch.setattr("nemo_cosmos.models.autoregressive.decoding.medusa.Guesser", KnowsMore)
    full = grow_tree([[0.5, 0.49, 0.48]] * 3, 40)  # every node of three levels
    assert full.num_nodes == 40
    plain, found = check_same(net, job, full, random_heads(net))
    assert found < plain / 2
    check_same(net, job, TREES[3], random_heads(net))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_windows_with_guesses_of_heads_give_the_same_codes(build, sampling: Sampling) -> None:
    net = build()
    drafts = Drafts("heads", GRID, net.config.vocab_size)
    for number, window in enumerate((1, 3, 12, NUM_CODES)):
        job = some_job(net, sampling, 6 * number)
        scorer = Scorer(net, GRID, 6)
        plain = decode_plain(scorer, job)
        by_window = Scorer(net, GRID, 6, spare=window)
        found = decode_jacobi(by_window, job, window, drafts, heads=random_heads(net))
        assert all(map(torch.equal, found.codes, plain.codes)), window
        check_same_cache(by_window.cache, scorer.cache)


def test_the_first_of_the_best_is_what_is_drawn() -> None:
    logits_NV = torch.randn(50, 30, generator=torch.Generator().manual_seed(1)) * 2
    noise, video_N, place_N = PlaceNoise([4]), torch.zeros(50, dtype=torch.int64), torch.arange(50)
    for sampling in SAMPLINGS:
        best_NR = draw_best(logits_NV, sampling, noise, video_N, place_N, 3)
        assert torch.equal(best_NR[:, 0], draw(logits_NV, sampling, noise, video_N, place_N))
        assert all(len(set(row)) == 3 for row in best_NR.tolist())
    few_NR = draw_best(logits_NV, Sampling(top_k=2), noise, video_N, place_N, 4)
    assert all(len(set(row)) == 2 for row in few_NR.tolist())


def test_trees_grow_where_they_are_reached_most_often() -> None:
    rates = [[0.6, 0.3], [0.5, 0.1], [0.9, 0.0]]
    assert grow_tree(rates, 1) == Tree()
    # 0.6; 0.6 * 0.5 and 0.3 are equal, and the shallower comes first; 0.3 * 0.9; 0.3 * 0.5 ...
    assert grow_tree(rates, 5) == Tree((-1, 0, 0, 1, 3), (0, 0, 1, 0, 0))
    assert expected_codes(grow_tree(rates, 5), rates) == pytest.approx(1 + 0.6 + 0.3 + 0.3 + 0.27)
    assert grow_tree(rates, 100).num_nodes == 1 + 2 + 4 + 4, "what is never right is left out"
    with pytest.raises(ConfigError, match="no root"):
        grow_tree(rates, 0)


def test_a_tree_is_as_large_as_pays() -> None:
    rates = [[0.9, 0.05]] * 4
    sizes = (2, 5, 10)
    assert best_tree(rates, sizes, [1.0, 1.0, 1.0]) == grow_tree(rates, 10)
    assert best_tree(rates, sizes, [1.0, 1.1, 5.0]) == grow_tree(rates, 5)
    assert best_tree(rates, sizes, [1.0, 9.0, 9.0]) == grow_tree(rates, 2)


def test_measuring_a_pass_leaves_no_trace(build) -> None:
    net = build()
    scorer = Scorer(net, GRID, spare=8)
    scorer.feed(torch.arange(5)[None])
    seconds = pass_seconds(scorer, (2, 8))
    assert len(seconds) == 2 and min(seconds) > 0
    assert scorer.cache.lengths == (5,) and scorer.num_passes == 1
