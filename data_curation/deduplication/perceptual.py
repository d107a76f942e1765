"""Perceptual hash of a clip: the same pictures, encoded, scaled or graded anew, are found again.

A clip's signature is a handful of 16x16 luma thumbnails, evenly over its length. Each thumbnail has
a 64-bit hash: the signs of the lowest frequencies of its cosine transform against their median.
Hashes are looked up by bands: two clips are compared when they agree in some aligned 16 bits of
them, so that the work grows with the number of look-alikes and not with the square of the clips.

A hash alone would call two recordings of a fixed camera the same. Candidates are therefore judged
by their thumbnails: what differs between the clips, after a change of brightness, contrast and a
slight crop, must be small against what changes within them.

Shape suffixes: N clips, T thumbnails, Y X pixels of one, B bands.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

THUMBNAIL_PX = 16
HASH_PX = 8
#: Largest share of differing bits of candidates.
MAX_HASH_DISTANCE = 0.2
#: What may differ, as a share of the variance over time within the clip, plus a floor in grey
#: levels squared for the noise of encoders.
MAX_CHANGE_SHARE, NOISE_FLOOR = 0.6, 6.0
#: Crops that are tried, as a zoom about the centre, and pixels of the border that they leave out.
ZOOMS, _BORDER_PX = (1.0, 1.04, 1 / 1.04, 1.08, 1 / 1.08), 1
#: Clips that agree in a band are compared with each other, unless they are more than this: then the
#: band says nothing (black or flat pictures), and the other bands decide.
MAX_BAND_GROUP = 2048

#: Clips and pairs that are worked on at once.
_BLOCK_CLIPS, _BLOCK_PAIRS = 8192, 1 << 18

Signatures = NDArray[np.uint8]
Hashes = NDArray[np.uint64]


def clip_signature(frames_THWC: NDArray[np.uint8]) -> Signatures:
    """Luma thumbnails ``(T, 16, 16)`` of RGB frames."""
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in grey])


def hash_signatures(signature_NTYX: Signatures) -> Hashes:
    """Hashes ``(N, T)``, one 64-bit number for each thumbnail."""
    blocks = range(0, len(signature_NTYX), _BLOCK_CLIPS)
    hashes = [_hash_block(signature_NTYX[start : start + _BLOCK_CLIPS]) for start in blocks]
    empty = np.empty((0, signature_NTYX.shape[1]), dtype=np.uint64)
    return np.concatenate([empty, *hashes])


def _hash_block(signature_NTYX: Signatures) -> Hashes:
    basis = _cosines()[:HASH_PX]
    low = basis @ signature_NTYX.astype(np.float32) @ basis.T
    low = low.reshape(*low.shape[:2], HASH_PX * HASH_PX)
    # The first coefficient is the mean brightness and would always be above the median.
    median = np.median(low[..., 1:], axis=-1, keepdims=True)
    bits = np.packbits(low > median, axis=-1)
    return np.ascontiguousarray(bits).view(np.uint64)[..., 0]


def hash_distance(first_NT: Hashes, second_NT: Hashes) -> NDArray[np.float64]:
    """Share of differing bits, ``(N,)``."""
    differing = np.bitwise_count(first_NT ^ second_NT).sum(axis=-1, dtype=np.int64)
    return np.asarray(differing / (64.0 * first_NT.shape[-1]))


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
    first_NTYX: NDArray[np.float32], second_NTYX: NDArray[np.float32]
) -> NDArray[np.bool_]:
    first, second = (
        clip.reshape(len(clip), clip.shape[1], -1) for clip in (first_NTYX, second_NTYX)
    )
    centred, other = (clip - clip.mean(axis=(1, 2), keepdims=True) for clip in (first, second))
    # The least-squares gain between the clips; a duplicate may be graded, but not turned negative.
    energy = np.maximum((centred**2).sum(axis=(1, 2)), 1e-6)
    gain = np.clip((centred * other).sum(axis=(1, 2)) / energy, 0.5, 2.0)[:, None, None]
    residual = ((other / gain - centred) ** 2).mean(axis=(1, 2))
    within = np.minimum(_variance_over_time(first), _variance_over_time(second))
    return np.asarray(residual <= MAX_CHANGE_SHARE * within + NOISE_FLOOR)


def _zoomed(clip_NTYX: Signatures, zoom: float) -> NDArray[np.float32]:
    """Zoom into (or out of) the centre by linear interpolation, without the border."""
    place = np.arange(THUMBNAIL_PX, dtype=np.float32)
    center = (THUMBNAIL_PX - 1) / 2
    source = np.clip(center + (place - center) / zoom, 0, THUMBNAIL_PX - 1)
    weights = np.maximum(0, 1 - np.abs(source[:, None] - place[None, :])).astype(np.float32)
    return _inner(weights @ clip_NTYX.astype(np.float32) @ weights.T)


def _inner(clip_NTYX: NDArray[np.generic]) -> NDArray[np.float32]:
    inner = slice(_BORDER_PX, -_BORDER_PX)
    return np.asarray(clip_NTYX[..., inner, inner], dtype=np.float32)


def candidate_pairs(hash_NT: Hashes) -> Iterator[NDArray[np.int64]]:
    """Pairs ``(P, 2)`` of clips that agree in a band, band by band; a pair may come repeatedly.

    Clips whose hashes are all equal are paired with the first of them only.
    """
    _, first, group_N = np.unique(hash_NT, axis=0, return_index=True, return_inverse=True)
    everyone = np.arange(len(hash_NT))
    twins = first[group_N.ravel()] != everyone
    yield np.stack([first[group_N.ravel()][twins], everyone[twins]], axis=1)
    firsts = np.sort(first)
    bands_NB = np.ascontiguousarray(hash_NT[firsts]).view(np.uint16)
    for band_N in bands_NB.T:
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
    hash_NT = hash_signatures(signature_NTYX)
    found = [np.empty((0, 2), dtype=np.int64)]
    for pairs in _batched(candidate_pairs(hash_NT)):
        near = hash_distance(hash_NT[pairs[:, 0]], hash_NT[pairs[:, 1]]) <= MAX_HASH_DISTANCE
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


def _variance_over_time(clip_NTP: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(clip_NTP.var(axis=1).mean(axis=-1))


def _cosines() -> NDArray[np.float32]:
    """The orthogonal cosine transform (DCT-II) of 16 values as a matrix."""
    frequency, place = np.mgrid[:THUMBNAIL_PX, :THUMBNAIL_PX]
    basis = np.cos(np.pi * (2 * place + 1) * frequency / (2 * THUMBNAIL_PX))
    basis[0] /= np.sqrt(2)
    return np.asarray(basis * np.sqrt(2 / THUMBNAIL_PX), dtype=np.float32)
