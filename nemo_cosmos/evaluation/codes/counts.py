"""How often each code of a codebook occurs, kept without the codes that never do.

Shape suffixes: U codes that occur, K codes of the codebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import InputError


@dataclass(frozen=True)
class CodeCounts:
    """The codes of one video, or of several.

    Attributes:
        codes_U: the codes that occur, in ascending order.
        counts_U: how often.
        codebook_size: how many codes there are.
    """

    codes_U: NDArray[np.int64]
    counts_U: NDArray[np.int64]
    codebook_size: int

    @classmethod
    def of(cls, indices: NDArray[np.integer], codebook_size: int) -> CodeCounts:
        """Count the codes of a video.

        Args:
            indices: code indices of any shape, as a discrete tokenizer makes them.
            codebook_size: how many codes there are.

        Raises:
            InputError: there are none, or one is not of the codebook.
        """
        if indices.size == 0 or indices.min() < 0 or indices.max() >= codebook_size:
            raise InputError(
                f"Expected code indices from 0 to {codebook_size - 1}, got {indices.size} of them"
                + (f" from {indices.min()} to {indices.max()}" if indices.size else "")
                + ". They are another tokenizer's, or damaged; encode the video again."
            )
        codes_U, counts_U = np.unique(indices, return_counts=True)
        return cls(codes_U.astype(np.int64), counts_U.astype(np.int64), codebook_size)

    @property
    def shares_U(self) -> NDArray[np.float64]:
        """Of each code that occurs, its share in all."""
        return np.asarray(self.counts_U / self.counts_U.sum(), np.float64)


def add_counts(counts: Sequence[CodeCounts]) -> CodeCounts:
    """The codes of all videos together.

    Args:
        counts: those of each video, one or more.

    Raises:
        InputError: they are of codebooks of different sizes.
    """
    sizes = {one.codebook_size for one in counts}
    if len(sizes) != 1:
        raise InputError(
            f"Codes of codebooks of different sizes, {sorted(sizes)}, cannot be counted together. "
            "Encode all videos with one tokenizer."
        )
    total_K = np.bincount(
        np.concatenate([one.codes_U for one in counts]),
        np.concatenate([one.counts_U for one in counts]),
    )
    (codes_U,) = np.nonzero(total_K)
    return CodeCounts(codes_U, total_K[codes_U].astype(np.int64), sizes.pop())
