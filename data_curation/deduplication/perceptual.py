"""Perceptual hash of a clip: the same pictures, encoded, scaled, graded, cropped or marked again.

A clip's signature is a handful of 16x16 luma thumbnails, evenly over its length. Each thumbnail has
two 64-bit hashes, of the whole and of its central part, which a logo or a subtitle leaves alone:
the signs of the lowest frequencies of the cosine transform against their median. Hashes are looked
up by bands: two clips are compared when they agree in some aligned 16 bits of them, so that the
work grows with the number of similar clips and not with the square of all clips.

A hash alone would call two recordings of a fixed camera the same. Candidates are therefore judged
by their thumbnails, after a change of brightness and contrast and a slight crop, in two ways. *What
stands still*: the means over time must be alike, but for a small part of the picture, which a logo
may cover. *What moves*: the changes over time must differ by less than the changes themselves, in
the whole picture; those of two recordings have nothing in common and differ by twice as much. Clips
in which nothing moves say nothing by their changes: all of their picture must be alike.

Shape suffixes: N clips, T thumbnails, Y X pixels of one, Q pixels of its inner part in a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

THUMBNAIL_PX = 16
HASH_PX = 8
#: Pixels on each side that the second hash leaves out.
_MARGIN_PX = 3
#: Largest share of differing bits of candidates, in one of the two hashes.
MAX_HASH_DISTANCE = 0.2
#: Part of the picture that a logo may cover.
LOGO_SHARE = 0.12
#: What may differ: of the means over time as a share of the variance within them, and of the
#: changes over time as a share of their own variance; chosen on clips of 2 s, of which copies gave
#: at most 0.027 and 0.96, others that look alike 1.4 and more in the second.
MAX_STILL_SHARE, MAX_CHANGE_SHARE = 0.05, 1.0
#: Below the first nothing moves; what may differ in such a clip is the noise of encoders. Both in
#: grey levels squared.
MIN_MOTION, NOISE_FLOOR = 1.0, 6.0
#: Crops that are tried, as a zoom about the centre, and pixels of the border that they leave out.
ZOOMS, _BORDER_PX = (1.0, 1.04, 1 / 1.04, 1.08, 1 / 1.08), 1
#: Clips that agree in a band are compared with each other, unless they are more than this: then the
#: band says nothing (black or flat pictures), and the other bands decide.
MAX_BAND_GROUP = 2048

#: Clips and pairs that are worked on at once.
_BLOCK_CLIPS, _BLOCK_PAIRS = 8192, 1 << 18
_BITS_IN_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(
    axis=1, dtype=np.uint8
)

Signatures = NDArray[np.uint8]
Hashes = NDArray[np.uint64]


def clip_signature(frames_THWC: NDArray[np.uint8]) -> Signatures:
    """Luma thumbnails ``(T, 16, 16)`` of RGB frames."""
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in grey])


def hash_signatures(signature_NTYX: Signatures) -> Hashes:
    """Hashes ``(N, 2, T)``: of the whole and of the centre, 64 bits for each thumbnail."""
    blocks = range(0, len(signature_NTYX), _BLOCK_CLIPS)
    center = slice(_MARGIN_PX, -_MARGIN_PX)
    hashes = [
        np.stack([_hash_block(block), _hash_block(block[..., center, center])], axis=1)
        for block in (signature_NTYX[start : start + _BLOCK_CLIPS] for start in blocks)
    ]
    empty = np.empty((0, 2, signature_NTYX.shape[1]), dtype=np.uint64)
    return np.concatenate([empty, *hashes])


def _hash_block(signature_NTYX: Signatures) -> Hashes:
    basis = _cosines(signature_NTYX.shape[-1])[:HASH_PX]
    low = basis @ signature_NTYX.astype(np.float32) @ basis.T
    low = low.reshape(*low.shape[:2], HASH_PX * HASH_PX)
    # The first coefficient is the mean brightness and would always be above the median.
    median = np.median(low[..., 1:], axis=-1, keepdims=True)
    bits = np.packbits(low > median, axis=-1)
    return np.ascontiguousarray(bits).view(np.uint64)[..., 0]


def count_bits(words: Hashes) -> NDArray[np.uint8]:
    """Number of set bits in each word, of the same shape."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words)
    return _bits_by_table(words)  # NumPy 1.26, as in NVIDIA's NeMo image


def _bits_by_table(words: Hashes) -> NDArray[np.uint8]:
    bytes_NB = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, words.itemsize)
    return _BITS_IN_BYTE[bytes_NB].sum(axis=-1, dtype=np.uint8)


def hash_distance(first_N2T: Hashes, second_N2T: Hashes) -> NDArray[np.float64]:
    """Share of differing bits in the hash that differs less, ``(N,)``."""
    differing = count_bits(first_N2T ^ second_N2T).sum(axis=-1, dtype=np.int64)
    return np.asarray(differing.min(axis=1) / (64.0 * first_N2T.shape[-1]))


def look_the_same(first_NTYX: Signatures, second_NTYX: Signatures) -> NDArray[np.bool_]:
    """Whether pairs of clips show the same, ``(N,)``; see the module's docstring."""
    same = np.zeros(len(first_NTYX), dtype=bool)
    for zoom in ZOOMS:
        left = np.flatnonzero(~same)
        if not len(left):
            break
        same[left] = _are_equal(_zoomed(first_NTYX[left], zoom), _inner(second_NTYX[left]))
    return same


def _are_equal(
    first_NTQ: NDArray[np.float32], second_NTQ: NDArray[np.float32]
) -> NDArray[np.bool_]:
    still_NQ, other_NQ = first_NTQ.mean(axis=1), second_NTQ.mean(axis=1)
    moving_NTQ, others_NTQ = first_NTQ - still_NQ[:, None], second_NTQ - other_NQ[:, None]
    # Means over time and place, so that each number is a variance in grey levels squared.
    moves, other_moves, together = (
        np.einsum("ntq,ntq->n", one, two) / one[0].size
        for one, two in (
            (moving_NTQ, moving_NTQ),
            (others_NTQ, others_NTQ),
            (moving_NTQ, others_NTQ),
        )
    )
    kept_NQ = np.ones_like(still_NQ)
    for _ in range(2):  # what a logo covers is left out of the second fit
        centred_NQ, changed_NQ = _centred(still_NQ, kept_NQ), _centred(other_NQ, kept_NQ)
        spread = _mean(centred_NQ**2, kept_NQ)
        # The least-squares gain; a duplicate may be graded, but not turned negative.
        gain = _mean(centred_NQ * changed_NQ, kept_NQ) + together
        gain = np.clip(gain / np.maximum(spread + moves, 1e-6), 0.5, 2.0)
        off_NQ = (changed_NQ / gain[:, None] - centred_NQ) ** 2
        kept_NQ = _all_but_largest(off_NQ, LOGO_SHARE)
    differing = other_moves / gain**2 - 2 * together / gain + moves
    least_moves = np.minimum(moves, other_moves / gain**2)
    moves_alike = (differing <= MAX_CHANGE_SHARE * least_moves) & (least_moves >= MIN_MOTION)
    moves_alike &= _mean(off_NQ, kept_NQ) <= MAX_STILL_SHARE * spread
    # Black pictures with a few thin lines differ by less than noise, too.
    differs = off_NQ.mean(axis=1) + differing
    is_alike = (differs <= NOISE_FLOOR) & (differs <= MAX_STILL_SHARE * spread)
    return np.asarray(moves_alike | is_alike)


def _mean(values_NQ: NDArray[np.float32], weight_NQ: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((values_NQ * weight_NQ).sum(axis=1) / weight_NQ.sum(axis=1))


def _centred(values_NQ: NDArray[np.float32], weight_NQ: NDArray[np.float32]) -> NDArray[np.float32]:
    return values_NQ - _mean(values_NQ, weight_NQ)[:, None]


def _all_but_largest(values_NQ: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """One everywhere but at the largest values of each row."""
    place = round((1 - share) * values_NQ.shape[1]) - 1
    limit_N = np.partition(values_NQ, place, axis=1)[:, place]
    return (values_NQ <= limit_N[:, None]).astype(np.float32)


def _zoomed(clip_NTYX: Signatures, zoom: float) -> NDArray[np.float32]:
    """Zoom into (or out of) the centre by linear interpolation, without the border."""
    place = np.arange(THUMBNAIL_PX, dtype=np.float32)
    center = (THUMBNAIL_PX - 1) / 2
    source = np.clip(center + (place - center) / zoom, 0, THUMBNAIL_PX - 1)
    weights = np.maximum(0, 1 - np.abs(source[:, None] - place[None, :])).astype(np.float32)
    return _inner(weights @ clip_NTYX.astype(np.float32) @ weights.T)


def _inner(clip_NTYX: NDArray[np.generic]) -> NDArray[np.float32]:
    inner = slice(_BORDER_PX, -_BORDER_PX)
    inner_NTYX = np.asarray(clip_NTYX[..., inner, inner], dtype=np.float32)
    return inner_NTYX.reshape(*clip_NTYX.shape[:2], -1)


def candidate_pairs(hash_N2T: Hashes) -> Iterator[NDArray[np.int64]]:
    """Pairs ``(P, 2)`` of clips that agree in a band, band by band; a pair may come repeatedly.

    Clips whose hashes are all equal are paired with the first of them only.
    """
    _, first, group_N = np.unique(hash_N2T, axis=0, return_index=True, return_inverse=True)
    everyone = np.arange(len(hash_N2T))
    twins = first[group_N.ravel()] != everyone
    yield np.stack([first[group_N.ravel()][twins], everyone[twins]], axis=1)
    firsts = np.sort(first)
    rows = hash_N2T[firsts].reshape(len(firsts), math.prod(hash_N2T.shape[1:]))
    for band_N in rows.view(np.uint16).T:
        order = np.argsort(band_N, kind="stable")
        ordered = band_N[order]
        _, group, counts = np.unique(ordered, return_inverse=True, return_counts=True)
        shared = (counts > 1) & (counts <= MAX_BAND_GROUP)
        left = np.flatnonzero(shared[group])
        for offset in range(1, int(counts[shared].max(initial=1))):
            left = left[left + offset < len(ordered)]
            left = left[ordered[left] == ordered[left + offset]]
            yield firsts[np.stack([order[left], order[left + offset]], axis=1)]


def perceptual_pairs(signature_NTYX: Signatures) -> NDArray[np.int64]:
    """All pairs ``(P, 2)`` of clips that look the same, each once, the lower number first."""
    hash_N2T = hash_signatures(signature_NTYX)
    found = [np.empty((0, 2), dtype=np.int64)]
    for pairs in _batched(candidate_pairs(hash_N2T)):
        near = hash_distance(hash_N2T[pairs[:, 0]], hash_N2T[pairs[:, 1]]) <= MAX_HASH_DISTANCE
        near_pairs = np.unique(pairs[near], axis=0)
        for start in range(0, len(near_pairs), _BLOCK_CLIPS):
            some = near_pairs[start : start + _BLOCK_CLIPS]
            same = look_the_same(signature_NTYX[some[:, 0]], signature_NTYX[some[:, 1]])
            found.append(some[same])
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _batched(groups: Iterator[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    """Join small groups of pairs and cut large ones, so that each call does about as much."""
    waiting: list[NDArray[np.int64]] = []
    for group in groups:
        waiting += [group[at : at + _BLOCK_PAIRS] for at in range(0, len(group), _BLOCK_PAIRS)]
        if sum(map(len, waiting)) >= _BLOCK_PAIRS:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _cosines(size: int) -> NDArray[np.float32]:
    """The orthogonal cosine transform (DCT-II) of so many values as a matrix."""
    frequency, place = np.mgrid[:size, :size]
    basis = np.cos(np.pi * (2 * place + 1) * frequency / (2 * size))
    basis[0] /= np.sqrt(2)
    return np.asarray(basis * np.sqrt(2 / size), dtype=np.float32)
