"""Decoding: the cache changes nothing, noise belongs to places, many codes at once are exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.decoding import scorer as scorer_module
from nemo_cosmos.models.autoregressive.decoding.drafts import DRAFTS, Drafts
from nemo_cosmos.models.autoregressive.decoding.loops import (
    Decoded,
    Job,
    decode_jacobi,
    decode_plain,
)
from nemo_cosmos.models.autoregressive.decoding.noise import PlaceNoise
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling, draw, probabilities
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork, TokenInput
from nemo_cosmos.models.common.attention.cache import KeyValueCache

GRID = (3, 3, 4)
NUM_CODES = 36
SAMPLINGS = (
    Sampling(),
    Sampling(temperature=0.0),
    Sampling(temperature=0.7, top_k=6),
    Sampling(temperature=1.3, top_p=0.8),
    Sampling(top_k=12, top_p=0.9),
)


def texts(net: ARNetwork, batch: int, guidance: float) -> dict[str, object]:
    if not net.config.context_channels:
        return {}
    generator = torch.Generator().manual_seed(2)
    text, negative = torch.randn(2, batch, 5, net.config.context_channels, generator=generator)
    return {"text_BMC": text, "negative_BMC": negative, "guidance": guidance}


def prompts(net: ARNetwork, *counts: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(net.config.vocab_size, (n,), generator=generator) for n in counts]


def decode(
    net: ARNetwork,
    job: Job,
    window: int = 0,
    drafts: str = "frame",
    guidance: float = 0.0,
) -> tuple[Decoded, KeyValueCache]:
    batch = len(job.given)
    scorer = Scorer(net, GRID, batch, spare=window, **texts(net, batch, guidance))  # type: ignore[arg-type]
    if not window:
        return decode_plain(scorer, job), scorer.cache
    guesses = Drafts(drafts, GRID, net.config.vocab_size)
    return decode_jacobi(scorer, job, window, guesses), scorer.cache


@pytest.mark.parametrize("text", [False, True])
def test_the_cache_changes_no_score(build, text: bool) -> None:
    net = build(text=text)
    (codes,) = prompts(net, NUM_CODES)
    begin = [torch.tensor([net.config.begin_id])] if text else []
    tokens_BL = torch.cat([*begin, codes])[None]
    scorer = Scorer(net, GRID, **texts(net, 1, 0.0))  # type: ignore[arg-type]
    fed = torch.cat([scorer.feed(part) for part in tokens_BL.split(5, dim=1)])
    places = scorer.table.at(torch.arange(tokens_BL.shape[1]))
    with torch.no_grad():
        whole = net(TokenInput(tokens_BL, places, texts(net, 1, 0.0).get("text_BMC")))  # type: ignore[arg-type]
    torch.testing.assert_close(fed, whole[..., : net.config.vocab_size], atol=1e-4, rtol=1e-4)


def test_scores_by_an_output_that_lies_by_columns(build) -> None:
    """As that of a large codebook does, of which these scores are one row of products."""
    net = build(text=False)
    (codes,) = prompts(net, NUM_CODES)
    usual, laid = Scorer(net, GRID), Scorer(net, GRID)
    laid.output_weight_VE = net.output.weight.detach().t().contiguous().t()
    for part in codes[None].split(1, dim=1):
        torch.testing.assert_close(laid.feed(part), usual.feed(part), atol=1e-5, rtol=1e-5)


class Waits(TorchFunctionMode):
    """Counts what would make the host wait for a GPU: values it reads, and pageable copies."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        options = kwargs or {}
        name = getattr(func, "__name__", "")
        copies = func is torch.tensor and options.get("device") is not None
        if copies or name in ("item", "tolist", "__bool__", "__int__", "nonzero", "cpu"):
            self.found.append(name)
        return func(*args, **options)


@pytest.mark.parametrize("given", [(12, 12), (12, 5)])
def test_the_host_never_waits_for_a_plain_step(build, given: tuple[int, int]) -> None:
    net, waits = build(), []
    for more in (2, 9):
        totals = [count + more for count in given]
        with Waits() as seen:
            decode(net, Job(prompts(net, *given), totals, [1, 2], Sampling()))
        waits.append(len(seen.found))
    assert waits[0] == waits[1] > 0, "only what comes before the first code may wait"


def test_given_codes_are_fed_in_chunks(build, monkeypatch: pytest.MonkeyPatch) -> None:
    net = build()
    job = Job(prompts(net, 17, 5), [NUM_CODES, 20], [1, 2], Sampling())
    whole, _ = decode(net, job)
    monkeypatch.setattr(scorer_module, "PREFILL_TOKENS", 4)
    chunked, _ = decode(net, job)
    assert all(map(torch.equal, whole.codes, chunked.codes))


def test_a_sample_is_a_function_of_its_own_seed_and_codes(build) -> None:
    net = build()
    given = prompts(net, 12, 7, 30)
    totals, seeds = [NUM_CODES, 21, 31], [5, 6, 7]
    together, cache = decode(net, Job(given, totals, seeds, Sampling(top_p=0.9)))
    assert together.num_drawn == 24 + 14 + 1
    assert cache.lengths == (NUM_CODES - 1, 20, 30)
    for number, codes in enumerate(together.codes):
        job = Job([given[number]], [totals[number]], [seeds[number]], Sampling(top_p=0.9))
        alone, _ = decode(net, job)
        assert torch.equal(alone.codes[0], codes) and len(codes) == totals[number]
        assert torch.equal(codes[: len(given[number])], given[number])
    other, _ = decode(net, Job(given[:1], totals[:1], [50], Sampling(top_p=0.9)))
    assert not torch.equal(other.codes[0], together.codes[0])
    chunk, _ = decode(net, Job(given[:1], totals[:1], [5], Sampling(top_p=0.9), stream=1))
    assert not torch.equal(chunk.codes[0], together.codes[0])


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_windows_of_any_length_give_the_same_codes(build, sampling: Sampling) -> None:
    """48 seeds a setting and every kind of guess, in windows of 1 up to the whole video."""
    net = build()
    windows = (1, 2, 3, 5, 8, 13, 24, NUM_CODES)
    for first, window in enumerate(windows):
        seeds = range(6 * first, 6 * first + 6)
        given = prompts(net, *[12, 12, 1, 5, 35, 20])
        job = Job(given, [NUM_CODES, 30, NUM_CODES, 17, NUM_CODES, 36], list(seeds), sampling)
        plain, plain_cache = decode(net, job)
        kind = DRAFTS[first % len(DRAFTS)]
        jacobi, cache = decode(net, job, window, kind)
        assert all(map(torch.equal, jacobi.codes, plain.codes)), (window, kind)
        assert jacobi.num_passes <= plain.num_passes
        check_same_cache(cache, plain_cache)


def check_same_cache(cache: KeyValueCache, expected: KeyValueCache) -> None:
    assert cache.lengths == expected.lengths
    for sample, length in enumerate(expected.lengths):
        torch.testing.assert_close(
            cache.store_N2BGMD[:, :, sample, :, :length],
            expected.store_N2BGMD[:, :, sample, :, :length],
            atol=1e-4,
            rtol=1e-4,
        )


@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_windows_with_text_and_guidance_and_nothing_given(build, guidance: float) -> None:
    net = build(text=True)
    for window, seed in ((4, 1), (11, 2)):
        job = Job(prompts(net, 0, 12), [NUM_CODES] * 2, [seed, seed + 9], Sampling(top_p=0.9))
        plain, plain_cache = decode(net, job, guidance=guidance)
        jacobi, cache = decode(net, job, window, guidance=guidance)
        assert all(map(torch.equal, jacobi.codes, plain.codes))
        check_same_cache(cache, plain_cache)
    unguided, _ = decode(net, job)
    assert guidance == 0 or not torch.equal(unguided.codes[0], plain.codes[0])


def test_a_still_video_takes_few_passes(build) -> None:
    """A model sure that every frame repeats the last one is decoded a window at a time."""
    net = build()
    scorer = Scorer(net, GRID, spare=12)

    def repeats(tokens_BL: torch.Tensor) -> torch.Tensor:
        (length,) = scorer.cache.lengths
        scorer.cache.advance(tokens_BL.shape[1])
        scorer.num_passes += 1
        places = length + 1 + torch.arange(tokens_BL.shape[1])
        return 30.0 * torch.eye(net.config.vocab_size)[given[0][places % 12]][:, None]

    scorer.run = repeats  # type: ignore[method-assign]
    scorer.score = lambda scores: scores  # type: ignore[method-assign]
    given = prompts(net, 12)
    drafts = Drafts("frame", GRID, net.config.vocab_size)
    found = decode_jacobi(scorer, Job(given, [NUM_CODES], [4], Sampling()), 12, drafts)
    assert torch.equal(found.codes[0], given[0].repeat(3))
    assert (found.num_passes, found.num_drawn) == (2, 24)


def test_codes_are_drawn_as_often_as_their_probability() -> None:
    """A chi-square test of 20,000 draws against the filtered probabilities."""
    from scipy.stats import chisquare

    logits_1V = torch.randn(1, 12, generator=torch.Generator().manual_seed(0)) * 1.5
    num = 20_000
    noise, video_N = PlaceNoise([77]), torch.zeros(num, dtype=torch.int64)
    for sampling in (Sampling(), Sampling(0.8, top_p=0.9), Sampling(top_k=5)):
        drawn_N = draw(logits_1V.expand(num, -1), sampling, noise, video_N, torch.arange(num))
        expected_V = probabilities(logits_1V, sampling)[0].double()
        counts_V = torch.bincount(drawn_N, minlength=12)
        assert not counts_V[expected_V == 0].any()
        can = expected_V > 0
        expected = num * expected_V[can] / expected_V.sum()
        assert chisquare(counts_V[can], expected).pvalue > 1e-3


def test_what_top_k_and_top_p_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    logits_1V = torch.tensor([[0.5, 0.2, 0.2, 0.06, 0.04]]).log()

    def kept(**settings: float) -> list[int]:
        shares_V = probabilities(logits_1V, Sampling(**settings))[0]  # type: ignore[arg-type]
        assert shares_V.sum() == pytest.approx(1.0)
        return shares_V.nonzero()[:, 0].tolist()

    assert kept(top_k=1) == [0]
    assert kept(top_p=0.4) == [0]
    assert kept(top_p=0.6) == [0, 1, 2], "codes of the same score stay together"
    assert kept(top_p=0.95) == [0, 1, 2, 3]
    assert kept(top_k=3, top_p=0.6) == [0, 1, 2]
    everything = probabilities(torch.zeros(1, 3000), Sampling(top_p=0.999))
    assert (everything > 0).all(), "top-p looks further where the first codes do not suffice"


def test_noise_is_that_of_all_codes() -> None:
    noise = PlaceNoise([3, 2**62 + 5], stream=2)
    video_N, place_N = torch.tensor([0, 1, 1]), torch.tensor([9, 9, 10])
    dense = noise.gumbel_of_all(video_N, place_N, 50)
    code_NK = torch.tensor([[3, 49], [0, 7], [7, 8]])
    assert torch.equal(noise.gumbel(video_N, place_N, code_NK), dense.gather(1, code_NK))
    assert len(dense.unique()) == dense.numel()
    assert dense.mean() == pytest.approx(0.577, abs=0.25)


def test_impossible_jobs_are_refused(build) -> None:
    net = build()
    with pytest.raises(ConfigError, match=r"1 to 36"):
        decode(net, Job(prompts(net, 0), [NUM_CODES], [1], Sampling()))
    with pytest.raises(ConfigError, match=r"37 codes are given"):
        decode(net, Job(prompts(net, 37), [NUM_CODES], [1], Sampling()))
    with pytest.raises(ConfigError, match=r"run from 40 to 40.*0 to 39"):
        decode(net, Job([torch.tensor([40])], [NUM_CODES], [1], Sampling()))
    with pytest.raises(ConfigError, match=r"window=37"):
        decode(net, Job(prompts(net, 12), [NUM_CODES], [1], Sampling()), window=37)
    with pytest.raises(ConfigError, match=r"guidance=2"):
        Scorer(net, GRID, guidance=2.0)
