"""Cuts, fades, dissolves and wipes are found where they are; flashes, pans and light are none."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from data_curation.shots.detect import detect_shots, find_transitions, merged, straightness
from data_curation.shots.signatures import Signatures, read_signatures
from data_curation.shots.transition import Transition, shot_spans
from nemo_cosmos.errors import VideoError
from nemo_cosmos.video import Video, encode_video


def found(*shots: np.ndarray) -> list[tuple[int, int]]:
    frames = np.concatenate(shots).astype(np.uint8)
    return [(item.start, item.end) for item in find_transitions(Signatures.of(frames))]


def slow_scene(seed: int, num_frames: int, quarters: float = 1) -> np.ndarray:
    """A soft picture over which the camera goes by so many quarters of a pixel a frame."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 9, 3)).astype(np.uint8)
    wide = cv2.resize(coarse, (4 * 160, 4 * 72), interpolation=cv2.INTER_CUBIC)
    places = (np.arange(num_frames) * quarters).astype(int)
    views = (wide[:, place : place + 4 * 128] for place in places)
    return np.stack([cv2.resize(view, (128, 72), interpolation=cv2.INTER_AREA) for view in views])


def test_hard_cuts_are_found_and_motion_is_not_a_cut(scene):
    assert found(scene(1, 20), scene(2, 15), scene(3, 30)) == [(20, 20), (35, 35)]


def test_both_ends_of_a_short_shot_are_found(scene):
    assert found(scene(1, 20), scene(2, 4), scene(3, 20)) == [(20, 20), (24, 24)]


def test_a_cut_between_dark_scenes_is_found(scene):
    assert found(scene(1, 20) // 6, scene(2, 15) // 6) == [(20, 20)]


def test_a_fade_through_black_is_one_transition(scene):
    ramp = np.linspace(1, 0, 10)[:, None, None, None]
    one, other = scene(1, 30).astype(float), scene(2, 30).astype(float)
    one[20:] *= ramp
    other[:10] *= ramp[::-1]
    ((start, end),) = found(one, np.zeros((5, 64, 96, 3)), other)
    assert 19 <= start <= 24
    assert 41 <= end <= 46


def test_a_dissolve_is_one_transition():
    weight = np.linspace(0, 1, 14)[1:-1, None, None, None]
    one, other = slow_scene(1, 52), slow_scene(2, 52)
    mixed = one[40:] * (1 - weight) + other[:12] * weight
    ((start, end),) = found(one[:40], mixed, other[12:])
    assert 34 <= start <= 44
    assert 47 <= end <= 58


@pytest.mark.parametrize("length", [24, 48, 72, 96])
def test_no_frame_of_a_long_dissolve_is_left(length):
    weight = np.linspace(0, 1, length + 2)[1:-1, None, None, None]
    one, other = (slow_scene(seed, 60 + length, 24 / length) for seed in (1, 2))
    mixed = one[60:] * (1 - weight) + other[:length] * weight
    ((start, end),) = found(one[:60], mixed, other[length:])
    assert 60 - 0.2 * length <= start <= 61
    assert length + 59 <= end <= 60 + 1.25 * length


def test_two_transitions_with_a_short_shot_between_them_stay_two():
    weight = np.linspace(0, 1, 12)[1:-1, None, None, None]
    one, other, third = (slow_scene(seed, 80) for seed in (1, 2, 3))
    first = one[60:70] * (1 - weight) + other[:10] * weight
    second = other[32:42] * (1 - weight) + third[:10] * weight
    transitions = found(one[:60], first, other[10:32], second, third[10:])
    assert len(transitions) == 2
    assert transitions[0][1] <= 80
    assert transitions[1][0] >= 80


@pytest.mark.parametrize("num_frames", [60, 100])
def test_a_slow_pan_is_none(num_frames):
    rng = np.random.default_rng(4)
    coarse = rng.integers(0, 256, (6, 24, 3)).astype(np.uint8)
    wide = cv2.resize(coarse, (320, 72), interpolation=cv2.INTER_CUBIC)
    way = np.concatenate([np.zeros(60), np.linspace(0, 190, num_frames), np.full(60, 190)])
    assert found(np.stack([wide[:, x : x + 128] for x in way.astype(int)])) == []


def test_a_fade_through_white_between_bars_is_found():
    one, other = slow_scene(1, 50).astype(float), slow_scene(3, 50).astype(float)
    ramp = np.linspace(0, 1, 12)[:, None, None, None]
    one[-12:] = one[-12:] * (1 - ramp) + 220 * ramp
    other[:12] = other[:12] * ramp + 220 * (1 - ramp)
    frames = np.concatenate([one, np.full((3, 72, 128, 3), 220.0), other])
    frames[:, :10] = frames[:, -10:] = 0
    ((start, end),) = found(frames)
    assert start <= 48
    assert end >= 55


def test_a_wipe_is_one_transition():
    one, other = slow_scene(1, 44), slow_scene(2, 44)
    mixed = one[20:].copy()
    for index in range(24):
        mixed[index, :, : 5 * index] = other[index, :, : 5 * index]
    ((start, end),) = found(one[:20], mixed, other[24:])
    assert start < 44
    assert end > 20


@pytest.mark.parametrize("length", [1, 3, 5])
def test_a_flash_is_none(scene, length):
    frames = scene(1, 40).astype(int)
    frames[18 : 18 + length] = np.clip(frames[18 : 18 + length] + 150, 0, 255)
    assert found(frames) == []


def test_a_change_of_light_is_none():
    gain = np.concatenate([np.ones(15), np.linspace(1, 0.5, 8), np.full(15, 0.5)])
    assert found(slow_scene(1, 38) * gain[:, None, None, None]) == []


def test_a_fast_pan_is_none():
    rng = np.random.default_rng(5)
    wide = np.kron(rng.integers(0, 256, (8, 60, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    place = np.concatenate([np.zeros(15), np.linspace(0, 300, 12), np.full(15, 300)]).astype(int)
    assert found(np.stack([wide[:, x : x + 96] for x in place])) == []


@pytest.mark.parametrize("num_frames", [0, 1, 2])
def test_nothing_to_compare(scene, num_frames):
    assert find_transitions(Signatures.of(scene(1, 2)[:num_frames])) == []


def test_the_shots_of_a_real_film(samples_dir):
    transitions = detect_shots(samples_dir / "curation" / "test_video_30s.mp4", 720)
    cuts = {item.start for item in transitions}
    # Looked at by eye: the hard cuts of this piece of Sintel.
    assert {286, 372, 523, 573, 610} <= cuts
    # The others stand beside fades and are one transition with them.
    assert all(any(t.start <= cut <= t.end for t in transitions) for cut in (348, 624))
    assert len(transitions) <= 15


def test_signatures_of_a_file_and_of_its_frames_agree(tmp_path, scene):
    frames = scene(1, 6, height=72, width=128)
    encode_video(tmp_path / "v.mp4", Video(frames, fps=10), crf=5)
    of_file, of_frames = read_signatures(tmp_path / "v.mp4"), Signatures.of(frames)
    assert np.allclose(of_file.histogram_TB.sum(axis=1), 2, atol=0.05)
    # Limited range in the file, full range in memory: the same up to that.
    luma = (of_file.picture_T3HW[:, 0] * 255 - 16) / 219
    assert np.abs(luma - of_frames.picture_T3HW[:, 0]).mean() < 0.03


def test_a_wrong_number_of_frames_is_damage(tmp_path, scene):
    encode_video(tmp_path / "v.mp4", Video(scene(1, 6), fps=10))
    with pytest.raises(VideoError, match="gave 6 frames, expected 7"):
        read_signatures(tmp_path / "v.mp4", 7)


def test_straightness_of_a_blend_and_of_a_detour():
    rng = np.random.default_rng(0)
    first, last, other = rng.random((3, 3, 9, 16)).astype(np.float32)
    weight = np.linspace(0, 1, 8, dtype=np.float32)[:, None, None, None]
    assert straightness(first * (1 - weight) + last * weight) < 1e-3
    assert straightness(np.stack([first, other, other, last])) > 0.4


def test_spans_leave_the_transitions_and_a_margin_out():
    transitions = [Transition(50, 60), Transition(20, 20)]
    assert shot_spans(transitions, 100) == [(0, 20), (20, 50), (60, 100)]
    assert shot_spans(transitions, 100, margin=2) == [(0, 18), (22, 48), (62, 100)]
    assert shot_spans([Transition(0, 10), Transition(95, 100)], 100, 1) == [(11, 94)]
    assert shot_spans([], 5) == [(0, 5)]


def test_transitions_that_touch_are_one():
    items = [Transition(10, 20), Transition(3, 3), Transition(20, 25), Transition(12, 14)]
    assert merged(items) == [Transition(3, 3), Transition(10, 25)]
    assert all(a.end < b.start for a, b in itertools.pairwise(merged(items)))
