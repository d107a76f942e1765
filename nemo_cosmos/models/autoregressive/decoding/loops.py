"""The loops that decode: one code after the other, or many guessed codes at once.

Both return the same codes for the same seed. *Seed-locked Jacobi*: noise belongs to a place and not
to a moment, so that the code at a place is a function of the codes before it. A window of guesses
is fed in one causal pass, and every place of it is drawn again. As long as the guesses before a
place were what has been drawn there, the place is final; from the first one that was not, the new
draws become the next pass's guesses. Every pass makes at least one code final (Wiggers and
Hoogeboom, "Predictive sampling with forecasting autoregressive models", ICML 2020).

Shape suffixes: B videos, L places in a row, V codes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.decoding.drafts import Drafts
from nemo_cosmos.models.autoregressive.decoding.guesses import Guesser
from nemo_cosmos.models.autoregressive.decoding.noise import PlaceNoise
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling, draw
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.decoding.sequences import Sequences
from nemo_cosmos.models.autoregressive.decoding.window import MeasuredWindow
from nemo_cosmos.models.autoregressive.heads.module import Heads
from nemo_cosmos.progress import Progress


@dataclass(frozen=True)
class Job:
    """What is to be decoded.

    Attributes:
        given: the given codes of each video, (n,).
        totals: number of codes of each video.
        seeds: seed of each video.
        sampling: how codes are drawn.
        stream: number of the video where a long one is made of several.
    """

    given: Sequence[Tensor]
    totals: Sequence[int]
    seeds: Sequence[int]
    sampling: Sampling
    stream: int = 0


@dataclass(frozen=True)
class Decoded:
    """The codes, and what they took.

    Attributes:
        codes: all codes of each video, the given ones included.
        num_passes: passes of the network after the given frames were fed.
        num_drawn: codes that were made.
    """

    codes: list[Tensor]
    num_passes: int
    num_drawn: int


def decode_plain(scorer: Scorer, job: Job, progress: Progress | None = None) -> Decoded:
    """Draw one code after the other; the host never waits for the device.

    Args:
        scorer: the network with an empty cache.
        job: what to decode.
        progress: called after every pass with the codes done and wanted.
    """
    sequences, noise, num_drawn = begin(scorer, job)
    prefilled = scorer.num_passes
    video_B = torch.arange(scorer.batch_size, device=scorer.device)
    for _ in range(max(sequences.remaining)):
        is_active = [left > 0 for left in sequences.remaining]
        places_B1 = sequences.places(1)
        logits_BV = scorer.feed(sequences.tokens_before(places_B1))[0]
        drawn_B = draw(logits_BV, job.sampling, noise, video_B, places_B1[:, 0])
        sequences.write(places_B1, drawn_B[:, None])
        # A finished video is fed along and forgets it again.
        scorer.roll_back([int(not active) for active in is_active])
        sequences.known = [n + int(a) for n, a in zip(sequences.known, is_active, strict=True)]
        if progress is not None:
            progress(num_drawn - sum(sequences.remaining), num_drawn)
    return Decoded(sequences.results(), scorer.num_passes - prefilled, num_drawn)


def decode_jacobi(
    scorer: Scorer,
    job: Job,
    window: int | MeasuredWindow,
    drafts: Drafts,
    progress: Progress | None = None,
    heads: Heads | None = None,
) -> Decoded:
    """Draw a window of codes at once; the codes are those of :func:`decode_plain`.

    Args:
        scorer: the network with an empty cache and room for ``window`` more tokens.
        job: what to decode.
        window: places that are drawn in a pass, or what chooses them while decoding.
        drafts: guesses for places that were never drawn.
        progress: called after every pass with the codes done and wanted.
        heads: guess the next places anew after every pass, where given.

    Raises:
        ConfigError: the window is no number of places of the video.
    """
    chosen = MeasuredWindow([window], scorer.device) if isinstance(window, int) else window
    check_window(chosen.largest, max(job.totals))
    sequences, noise, num_drawn = begin(scorer, job, spare=chosen.largest)
    prefilled = scorer.num_passes
    guesser = None if heads is None else Guesser(scorer, heads, job.sampling, noise)
    while any(sequences.remaining):
        start_s = time.perf_counter()
        size = min(chosen.size, max(sequences.remaining))
        drafts.fill(sequences, size)
        places_BL = sequences.places(size)
        x_LBE = scorer.run(sequences.tokens_before(places_BL))
        logits_LBV = scorer.score(x_LBE)
        accepted = _accept(sequences, logits_LBV, places_BL, job.sampling, noise)
        scorer.roll_back([size - count for count in accepted])
        if guesser is not None:
            guesser.fill(x_LBE, [max(count - 1, 0) for count in accepted], sequences, size)
        chosen.saw(size, sum(accepted), time.perf_counter() - start_s)
        if progress is not None:
            progress(num_drawn - sum(sequences.remaining), num_drawn)
    return Decoded(sequences.results(), scorer.num_passes - prefilled, num_drawn)


def check_window(window: int, num_codes: int) -> None:
    """Require a window that fits a video.

    Raises:
        ConfigError: it is below 1 or longer than the video.
    """
    if not 1 <= window <= num_codes:
        raise ConfigError(
            f"window={window} is no number of codes that a video of {num_codes} can be decoded by. "
            f"Choose 1 to {num_codes}; 16 to 128 are usual."
        )


def begin(scorer: Scorer, job: Job, spare: int = 1) -> tuple[Sequences, PlaceNoise, int]:
    """Feed the given codes; return the videos, their noise and the number of codes to draw.

    Args:
        scorer: the network with an empty cache.
        job: what to decode.
        spare: places behind a video's end that guesses may be written to.
    """
    config = scorer.net.config
    sequences = Sequences(
        job.given,
        job.totals,
        begin_id=config.begin_id if config.begin_token else None,
        spare=spare,
        num_codes=config.vocab_size,
        device=scorer.device,
    )
    scorer.prefill(job.given)
    noise = PlaceNoise(job.seeds, job.stream, scorer.device)
    return sequences, noise, sum(sequences.remaining)


def _accept(
    sequences: Sequences,
    logits_LBV: Tensor,
    places_BL: Tensor,
    sampling: Sampling,
    noise: PlaceNoise,
) -> list[int]:
    """Draw every place again, and return how many became final in each video."""
    batch, size = places_BL.shape
    video_N = torch.arange(batch, device=places_BL.device).repeat_interleave(size)
    logits_NV = logits_LBV.transpose(0, 1).flatten(0, 1)
    drawn_BL = draw(logits_NV, sampling, noise, video_N, places_BL.flatten()).view(batch, size)
    return settle(sequences, places_BL, drawn_BL)


def settle(sequences: Sequences, places_BL: Tensor, drawn_BL: Tensor) -> list[int]:
    """Write what was drawn in the places of guesses; return how many became final, by video.

    Args:
        sequences: the videos; the places hold the guesses that the codes were drawn with.
        places_BL: the next places of each video.
        drawn_BL: what was drawn there.
    """
    size = places_BL.shape[1]
    is_same_BL = drawn_BL == sequences.codes_at(places_BL)
    num_same = is_same_BL.long().cumprod(1).sum(1).tolist()
    sequences.write(places_BL, drawn_BL)
    # The first draw that differs from its guess is final, too: what it was drawn from is.
    accepted = [
        min(same + 1, size, left) for same, left in zip(num_same, sequences.remaining, strict=True)
    ]
    # A longer window before this one may have left guesses further on.
    sequences.guessed = [
        max(known + size, guessed)
        for known, guessed in zip(sequences.known, sequences.guessed, strict=True)
    ]
    sequences.known = [n + count for n, count in zip(sequences.known, accepted, strict=True)]
    return accepted
