"""An invisible watermark in a video's brightness, found without the original.

Spread spectrum in the DCT domain (Cox et al. 1997); the host's interference is cancelled during
embedding (improved spread spectrum, Malvar and Florêncio 2003). Every frame's brightness is
resized to 256 x 256, so that scaling does not matter. Of its DCT, a ring of
middle frequencies carries 56 bits: a 32-bit identity and 24 bits of its CRC. Each bit is repeated
over some 190 coefficients with pseudo-random signs, and over all frames. To read, the coefficients
are averaged over the frames, divided by the spread of their frequency, and summed with the signs.

Each group of frames gets the smallest change that brings every bit's sum to a margin, but at least
a fixed energy (about 44 dB PSNR), more of it in texture than on plain walls. It survives
H.264 at CRF 28 and scaling to 75 %, but not cropping, rotation, or somebody who knows the signs,
which are public: it is a label, not a lock.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass

import cv2
import numpy as np

from nemo_cosmos.errors import VideoError
from nemo_cosmos.provenance.hashes import array_sha256

SIDE = 256
MIN_SIDE_PX = 256
_RING = (32.0, 120.0)  # lowest and highest frequency that carries, in DCT indices
_RING_WIDTH = 4.0  # frequencies that share one estimate of their spread
_ID_BITS, _CHECK_BITS = 32, 24
NUM_BITS = _ID_BITS + _CHECK_BITS
#: The mean coefficient, in spreads, that embedding gives every bit.
MARGIN = 0.15
#: Root mean square of the change in grey levels, where the margin needs less.
_RMS = 1.6
#: Smallest assumed spread, so that a blank picture is marked, too.
_MIN_SPREAD = 5.0
_GROUP_FRAMES = 48
#: Weakest bits that are flipped in turn while the check fails, and how many at once.
_DOUBTFUL, _FLIPS = 8, 3
_CLIP = 2.5
_TEXTURE_PX = 9
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class _Carrier:
    """Which coefficients carry which bit, with which sign; the same for everyone."""

    index_K: np.ndarray
    ring_K: np.ndarray
    bit_K: np.ndarray
    sign_K: np.ndarray

    @classmethod
    def make(cls) -> _Carrier:
        frequency = np.hypot(*np.meshgrid(np.arange(SIDE), np.arange(SIDE))).ravel()
        index_K = np.flatnonzero((frequency >= _RING[0]) & (frequency < _RING[1]))
        # Written out, because a library's generator may change its numbers with its version.
        random_K = _random_bits(2 * len(index_K))
        order_K = np.argsort(random_K[: len(index_K)], kind="stable")
        bit_K = np.empty(len(index_K), np.int64)
        bit_K[order_K] = np.arange(len(index_K)) % NUM_BITS
        sign_K = np.where(random_K[len(index_K) :] & 1, 1.0, -1.0)
        ring_K = ((frequency[index_K] - _RING[0]) / _RING_WIDTH).astype(np.int64)
        return cls(index_K, ring_K, bit_K, sign_K)


@dataclass(frozen=True)
class Reading:
    """The watermark as read from a video.

    Attributes:
        identity: eight hexadecimal digits; None if there is no watermark.
        sums: one number per bit, before the check; its sign is the bit.
    """

    identity: str | None
    sums: np.ndarray

    @property
    def bits(self) -> np.ndarray:
        """The bits before correction, bool ``(56,)``."""
        return self.sums > 0


def embed_watermark(frames_THWC: np.ndarray, identity: str) -> np.ndarray:
    """Return a copy of the frames with the watermark.

    Args:
        frames_THWC: uint8 RGB, at least 256 px high and wide.
        identity: eight hexadecimal digits.

    Raises:
        VideoError: the frames are too small.
    """
    height, width = frames_THWC.shape[1:3]
    if min(height, width) < MIN_SIDE_PX:
        raise VideoError(
            f"The video has {width}x{height} pixels, and the watermark needs {MIN_SIDE_PX} on each "
            "side. Make a larger video, or leave the watermark out."
        )
    wanted_B = np.where(identity_bits(identity), 1.0, -1.0)
    # Less than a grey level is lost in rounding, so what is rounded is made a little random.
    dither_HW1 = np.random.default_rng(0).random((height, width, 1), dtype=np.float32)
    marked_THWC = np.empty_like(frames_THWC)
    for start in range(0, len(frames_THWC), _GROUP_FRAMES):
        group = slice(start, start + _GROUP_FRAMES)
        pattern = _pattern(_mean_luma(frames_THWC[group]), wanted_B)
        change_HW1 = cv2.resize(pattern, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
        for frame, source_HWC in zip(marked_THWC[group], frames_THWC[group], strict=True):
            frame[:] = np.clip(np.floor(source_HWC + (change_HW1 + dither_HW1)), 0, 255)
    return marked_THWC


def read_watermark(frames_THWC: np.ndarray) -> Reading:
    """Read a video's watermark; more frames make it more certain."""
    sums_B = _bit_sums(_coefficients(_mean_luma(frames_THWC)))
    return Reading(_decode(sums_B), sums_B)


def identity_of(frames_THWC: np.ndarray) -> str:
    """Return the identity of a video: the first eight hexadecimal digits of its hash."""
    return array_sha256(frames_THWC)[: _ID_BITS // 4]


def identity_bits(identity: str) -> np.ndarray:
    """Return identity and check as bits, the highest first, bool ``(56,)``."""
    number = int(identity, 16)
    if len(identity) != _ID_BITS // 4:
        raise ValueError(f"the identity {identity!r} has not {_ID_BITS // 4} hexadecimal digits")
    whole = (number << _CHECK_BITS) | _check(number)
    return np.array([whole >> bit & 1 for bit in reversed(range(NUM_BITS))], dtype=bool)


def _decode(sums_B: np.ndarray) -> str | None:
    """Return the identity whose check fits, with as few doubtful bits flipped as possible."""
    weakest = np.argsort(np.abs(sums_B))[:_DOUBTFUL]
    for num_flips in range(_FLIPS + 1):
        for flips in itertools.combinations(weakest, num_flips):
            bits_B = sums_B > 0
            bits_B[list(flips)] ^= True
            whole = int("".join(str(int(bit)) for bit in bits_B), 2)
            number = whole >> _CHECK_BITS
            if _check(number) == whole & ((1 << _CHECK_BITS) - 1):
                return f"{number:0{_ID_BITS // 4}x}"
    return None


def _check(number: int) -> int:
    return zlib.crc32(number.to_bytes(_ID_BITS // 8, "big")) >> (32 - _CHECK_BITS)


def _mean_luma(frames_THWC: np.ndarray) -> np.ndarray:
    """Return the frames' brightness at the common size, averaged over time, float32 (256,256)."""
    total = np.zeros((SIDE, SIDE), np.float32)
    for frame_HWC in frames_THWC:
        # Shrinking commutes with mixing the colours, and a small picture is mixed faster.
        small = cv2.resize(frame_HWC.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        total += small @ _LUMA
    return total / len(frames_THWC)


def _coefficients(luma: np.ndarray) -> np.ndarray:
    """Return the DCT coefficients that carry bits."""
    found: np.ndarray = cv2.dct(luma).ravel()[_CARRIER.index_K].astype(np.float64)
    return found


def _strength(luma: np.ndarray) -> np.ndarray:
    """Return how much change each place hides: texture more than a plain wall, ``(256,256)``."""
    mean = cv2.blur(luma, (_TEXTURE_PX, _TEXTURE_PX))
    square = cv2.blur(luma * luma, (_TEXTURE_PX, _TEXTURE_PX))
    texture = np.sqrt(np.maximum(square - mean * mean, 0.0))
    hidden: np.ndarray = np.clip(0.4 + texture / 12.0, 0.4, 1.6)
    return cv2.blur(hidden, (_TEXTURE_PX, _TEXTURE_PX))


def _spread(mean_K: np.ndarray) -> np.ndarray:
    """Return the typical size of a coefficient by frequency, robust to single large ones."""
    spreads = []
    for ring in range(int(_CARRIER.ring_K.max()) + 1):
        size = np.abs(mean_K[_CARRIER.ring_K == ring])
        spreads.append(np.sqrt(np.mean(np.minimum(size, 3 * np.median(size)) ** 2)))
    return np.maximum(spreads, _MIN_SPREAD)[_CARRIER.ring_K]


def _bit_sums(mean_K: np.ndarray) -> np.ndarray:
    """Return the mean of each bit's coefficients, in spreads, with their signs."""
    scaled_K = np.clip(mean_K / _spread(mean_K), -_CLIP, _CLIP)
    return _mean_of_bits(_CARRIER.sign_K * scaled_K)


def _mean_of_bits(value_K: np.ndarray) -> np.ndarray:
    count_B = np.bincount(_CARRIER.bit_K, minlength=NUM_BITS)
    return np.bincount(_CARRIER.bit_K, value_K, NUM_BITS) / count_B


def _pattern(luma: np.ndarray, wanted_B: np.ndarray) -> np.ndarray:
    """Return what to add to the brightness: the margin, or more if that takes little energy."""
    strength = _strength(luma)
    pattern = _pattern_for(luma, strength, wanted_B, MARGIN)
    low, high = MARGIN, 1.5
    for _ in range(6):
        middle = (low + high) / 2
        tried = _pattern_for(luma, strength, wanted_B, middle)
        if np.sqrt(np.mean(tried**2)) > _RMS:
            high = middle
        else:
            low, pattern = middle, tried
    return pattern


def _pattern_for(
    luma: np.ndarray, strength: np.ndarray, wanted_B: np.ndarray, margin: float
) -> np.ndarray:
    """Move all coefficients of a bit by the same step until its sum reaches the margin."""
    mean_K = _coefficients(luma)
    sum_per_step_B = _mean_of_bits(1 / _spread(mean_K)) * float(strength.mean())
    spectrum = np.zeros(SIDE * SIDE, np.float32)
    pattern = np.zeros_like(luma)
    for _ in range(5):  # the spread, and what the strength spills over, change with every step
        sums_B = _bit_sums(mean_K + _coefficients(pattern))
        step_B = wanted_B * np.maximum(0.0, margin - wanted_B * sums_B) / sum_per_step_B
        spectrum[_CARRIER.index_K] += step_B[_CARRIER.bit_K] * _CARRIER.sign_K
        pattern = strength * cv2.idct(spectrum.reshape(SIDE, SIDE))
    return pattern


def _random_bits(count: int) -> np.ndarray:
    """Return pseudo-random 32-bit numbers: SplitMix64's output function over a counter."""
    with np.errstate(over="ignore"):
        x = (np.arange(1, count + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) >> np.uint64(32)


_CARRIER = _Carrier.make()
