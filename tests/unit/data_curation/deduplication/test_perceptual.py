"""The perceptual hash: copies are found, other recordings are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from data_curation.deduplication.perceptual import (
    MAX_BAND_GROUP,
    candidate_pairs,
    clip_signature,
    count_bits,
    hash_distance,
    hash_signatures,
    look_the_same,
    perceptual_pairs,
)


def pan(picture: np.ndarray, start: int = 0, num_frames: int = 8) -> np.ndarray:
    """A camera that pans over a picture."""
    return np.stack(
        [picture[:256, start + 12 * t : start + 12 * t + 256] for t in range(num_frames)]
    )


def fixed_camera(seed: int) -> np.ndarray:
    """The same room each time, in which something small moves on a way of its own."""
    rng = np.random.default_rng(seed)
    room = cv2.resize(data.coffee(), (256, 256))
    frames = []
    for x, y in rng.integers(30, 220, (8, 2)).tolist():
        frame = room.copy()
        cv2.circle(frame, (x, y), 14, (255, 255, 255), -1)
        frames.append(frame)
    return np.stack(frames)


def test_bits_are_counted_alike_with_and_without_numpy_2(monkeypatch):
    words = np.random.default_rng(0).integers(0, 2**63, (3, 2, 8), dtype=np.uint64) << np.uint64(1)
    words[0, 0, :3] = [0, 1, 2**64 - 1]
    expected = [bin(word).count("1") for word in words.ravel().tolist()]
    assert count_bits(words).ravel().tolist() == expected
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert count_bits(words).ravel().tolist() == expected
    first, second = words[:, :, :4], words[:, :, 4:]
    assert hash_distance(first, second).shape == (3,)


def resized(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def compressed(frames: np.ndarray) -> np.ndarray:
    jpegs = [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 15])[1] for frame in frames]
    return np.stack([cv2.imdecode(jpeg, cv2.IMREAD_COLOR) for jpeg in jpegs])


def marked(frames: np.ndarray) -> np.ndarray:
    """With a logo in the upper right corner."""
    frames = frames.copy()
    frames[:, 8:34, 180:248] = (255, 220, 0)
    return frames


COPIES = {
    "as it is": lambda frames: frames,
    "compressed": compressed,
    "smaller": lambda frames: resized(frames, (96, 72)),
    "brighter": lambda frames: np.clip(frames * 1.2 + 10, 0, 255).astype(np.uint8),
    "cropped": lambda frames: frames[:, 5:-5, 5:-5],
    "with a logo": marked,
    "with a logo, compressed": lambda frames: compressed(marked(frames)),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("scene", ["pan", "fixed"])
def test_copies_are_found(copy, scene):
    frames = pan(data.astronaut()) if scene == "pan" else fixed_camera(1)
    signatures = np.stack([clip_signature(frames), clip_signature(copy(frames))])
    assert perceptual_pairs(signatures).tolist() == [[0, 1]]


def test_other_clips_are_not(copies=4):
    clips = [pan(data.astronaut()), pan(data.astronaut(), 120), pan(data.coffee())]
    clips += [pan(data.astronaut())[::-1], 255 - pan(data.astronaut())]
    clips += [fixed_camera(seed) for seed in range(copies)]
    assert perceptual_pairs(np.stack([clip_signature(clip) for clip in clips])).tolist() == []


def test_two_recordings_of_a_fixed_camera_have_like_hashes_and_are_told_apart():
    signatures = np.stack([clip_signature(fixed_camera(seed)) for seed in (1, 2)])
    hashes = hash_signatures(signatures)
    assert hash_distance(hashes[:1], hashes[1:])[0] < 0.2
    assert not look_the_same(signatures[:1], signatures[1:])[0]


def test_bands_find_what_comparing_all_pairs_finds():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, (300, 2, 8)).astype(np.uint64)
    hashes[200:] = hashes[:100]
    flips = rng.integers(0, 64, (100, 2, 8)).astype(np.uint64)
    hashes[200:] ^= np.uint64(1) << flips  # a bit in each thumbnail
    found = {tuple(sorted(pair)) for group in candidate_pairs(hashes) for pair in group.tolist()}
    assert {(row, row + 200) for row in range(100)} <= found


def test_still_clips_are_copies_only_when_all_of_the_picture_is_alike():
    room = np.repeat(cv2.resize(data.coffee(), (256, 256))[None], 8, axis=0)
    other = room.copy()
    other[:, 20:60, 20:60] = 255  # something else stands on the table
    signatures = np.stack([clip_signature(clip) for clip in (room, compressed(room), other)])
    assert perceptual_pairs(signatures).tolist() == [[0, 1]]


def test_many_equal_clips_are_paired_with_the_first_one_only():
    signatures = np.repeat(clip_signature(pan(data.astronaut()))[None], 500, axis=0)
    pairs = perceptual_pairs(signatures)
    assert len(pairs) == 499 and (pairs[:, 0] == 0).all()


def test_a_band_that_says_nothing_is_left_to_the_others():
    shape = (MAX_BAND_GROUP + 1, 2, 8)
    hashes = np.random.default_rng(0).integers(0, 2**63, shape).astype(np.uint64)
    hashes[..., 0] = 0
    assert sum(map(len, candidate_pairs(hashes))) < 10 * len(hashes) * len(hashes) / 2**16 * 56


def test_no_clip_and_one_clip():
    one = clip_signature(pan(data.astronaut()))[None]
    assert len(perceptual_pairs(one)) == len(perceptual_pairs(one[:0])) == 0
