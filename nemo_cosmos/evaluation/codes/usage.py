"""Code usage and perplexity of a discrete tokenizer, over the codes of all videos together.

Both say how much of the codebook carries something. A few videos cannot show it: usage is at most
the number of codes that were made over the size of the codebook, and the perplexity at most the
number that were made.
"""

from __future__ import annotations

import numpy as np

from nemo_cosmos.evaluation.codes.counts import CodeCounts
from nemo_cosmos.evaluation.metric import CodeMetric


def code_usage(counts: CodeCounts) -> float:
    """Share of the codebook that occurs, from 0 to 1."""
    return len(counts.codes_U) / counts.codebook_size


def code_perplexity(counts: CodeCounts) -> float:
    """The exponential of the entropy of the codes: as many codes used equally often say as much."""
    shares_U = counts.shares_U
    return float(np.exp(-(shares_U * np.log(shares_U)).sum()))


CODE_USAGE = CodeMetric(
    name="code_usage",
    higher_is_better=True,
    description="share of the codebook that a discrete tokenizer uses on all videos",
    compute=code_usage,
)

CODE_PERPLEXITY = CodeMetric(
    name="code_perplexity",
    unit="codes",
    higher_is_better=True,
    description="exponential of the entropy of the codes of all videos",
    compute=code_perplexity,
)
