"""Kernel distance of two sets of videos: an unbiased alternative to Frechet's for small sets.

The squared maximum mean discrepancy with the kernel ``k(a, b) = (a.b / D + 1)^3``, as in KID
(Binkowski et al. 2018) and KVD (Unterthiner et al. 2019). Its expectation does not depend on how
many videos there are, where a Frechet distance of few is far too large.

Shape suffixes: N rows, D features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import InputError


def kernel_distance(first_ND: NDArray[np.floating], second_ND: NDArray[np.floating]) -> float:
    """Squared maximum mean discrepancy of two sets; about 0 for two draws of the same.

    It is a mean over pairs of different rows, on both sides and across, so that it stays unbiased
    where row i of both sets is of the same video: a video and its reconstruction are no
    independent draws. Resampled sets hold a video several times, and pairs of it with itself say
    nothing of the set: they are left out. An estimate can be a little below 0.

    Args:
        first_ND: rows of features, two or more.
        second_ND: as many rows of the same features.

    Raises:
        InputError: the sets have different shapes, or fewer than two rows.
    """
    if first_ND.shape != second_ND.shape or len(first_ND) < 2:
        raise InputError(
            f"A kernel distance needs two or more rows of features and as many on the other side, "
            f"got {first_ND.shape} and {second_ND.shape}. Compare the same videos on both sides."
        )
    first, second = first_ND.astype(np.float64), second_ND.astype(np.float64)
    across_NN = _kernel(first, second)
    pairs_NN = _kernel(first, first) + _kernel(second, second) - across_NN - across_NN.T
    _, video_N = np.unique(np.hstack([first, second]), axis=0, return_inverse=True)
    video_N = video_N.reshape(-1)
    differ_NN = video_N[:, None] != video_N[None, :]
    if not differ_NN.any():  # one video alone, again and again
        return float(pairs_NN.mean())
    return float(pairs_NN[differ_NN].mean())


def _kernel(first_ND: NDArray[np.float64], second_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((first_ND @ second_ND.T / first_ND.shape[1] + 1) ** 3)
