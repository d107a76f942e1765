"""What the authors of tokenizers published, to be read beside one's own numbers.

They are of other videos unless one evaluates those of the benchmark, and a report says so. Their
rFVD is :mod:`rfvd_i3d <nemo_cosmos.evaluation.sets.i3d>`.

A caveat of TokenBench: its figures were published on 2024-12-23 with a script that squared the
differences of bytes in bytes, which counts an error of 16 grey levels as none. It was corrected on
2024-12-27 and the figures stayed. A PSNR that errors of 16 and more contribute to may have come out
too high; the PSNR here is the corrected one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TOKENBENCH_SOURCE = "github.com/NVlabs/TokenBench, README, 2024-12-23"
DAVIS_SOURCE = "model cards of nvidia/Cosmos-0.1-Tokenizer-CV*, arXiv:2501.03575"


@dataclass(frozen=True)
class Published:
    """The figures of one tokenizer on one benchmark.

    Attributes:
        benchmark: the videos.
        tokenizer: its name.
        compression: frames x height x width for each latent or code.
        is_discrete: whether it makes codes.
        scores: the figures by the names of our metrics.
        source: where they were published.
    """

    benchmark: str
    tokenizer: str
    compression: str
    is_discrete: bool
    scores: Mapping[str, float]
    source: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "benchmark": self.benchmark,
            "tokenizer": self.tokenizer,
            "compression": self.compression,
            "is_discrete": self.is_discrete,
            "scores": dict(self.scores),
            "source": self.source,
        }


def _rows(
    benchmark: str, source: str, is_discrete: bool, *rows: tuple[str, str, float, float, float]
) -> tuple[Published, ...]:
    return tuple(
        Published(
            benchmark,
            tokenizer,
            compression,
            is_discrete,
            {"psnr": psnr, "ssim": ssim, "rfvd_i3d": rfvd},
            source,
        )
        for tokenizer, compression, psnr, ssim, rfvd in rows
    )


PUBLISHED: tuple[Published, ...] = (
    *_rows(
        "TokenBench",
        TOKENBENCH_SOURCE,
        False,
        ("Cosmos-CV4x8x8", "4x8x8", 37.270, 0.928, 6.849),
        ("Cosmos-CV8x8x8", "8x8x8", 36.856, 0.917, 11.624),
        ("Cosmos-CV8x16x16", "8x16x16", 35.158, 0.875, 43.085),
        ("CogVideoX", "4x8x8", 33.149, 0.908, 6.970),
        ("OmniTokenizer", "4x8x8", 29.705, 0.830, 35.867),
    ),
    *_rows(
        "TokenBench",
        TOKENBENCH_SOURCE,
        True,
        ("Cosmos-DV4x8x8", "4x8x8", 35.137, 0.887, 19.672),
        ("Cosmos-DV8x8x8", "8x8x8", 34.746, 0.872, 43.865),
        ("Cosmos-DV8x16x16", "8x16x16", 33.718, 0.828, 113.481),
        ("VideoGPT", "4x4x4", 35.119, 0.914, 13.855),
        ("OmniTokenizer", "4x8x8", 30.152, 0.827, 53.553),
    ),
    *_rows(
        "DAVIS",
        DAVIS_SOURCE,
        False,
        ("Cosmos-CV4x8x8", "4x8x8", 35.28, 0.890, 15.93),
        ("Cosmos-CV8x8x8", "8x8x8", 34.10, 0.850, 30.16),
        ("Cosmos-CV8x16x16", "8x16x16", 32.55, 0.770, 93.82),
        ("CogVideoX", "4x8x8", 31.74, 0.860, 19.58),
        ("OmniTokenizer", "4x8x8", 29.04, 0.710, 117.66),
    ),
)
"""In the order of their sources; TokenBench's are of 500 videos, DAVIS' of 50."""


def published_for(is_discrete: bool, suite: str | None = None) -> list[Published]:
    """The figures to show beside those of a tokenizer.

    Args:
        is_discrete: whether it makes codes.
        suite: the suite that was asked for; a benchmark's shows its own figures alone.
    """
    of_kind = [row for row in PUBLISHED if row.is_discrete == is_discrete]
    own = [row for row in of_kind if row.benchmark.lower() == suite]
    return own if suite in {row.benchmark.lower() for row in PUBLISHED} else of_kind
