"""Frames of a clip: decoded once for all who look, and the very pixels of decoding each alone."""

from __future__ import annotations

import numpy as np
import pytest

from data_curation import frames
from data_curation.frames import OpenClip, index_source, spread
from nemo_cosmos.errors import VideoError
from nemo_cosmos.video import Video, decode, encode_video, preferred_backend
from nemo_cosmos.video.backends.pyav import ForwardReader

#: What three stages ask for: frames, and the size that they want.
ASKED = [
    (np.array([4, 5, 6, 30, 31, 32]), (24, 36)),
    (np.array([31, 12, 12, 57]), None),
    (np.array([0, 5, 59]), (33, 44)),
]


@pytest.fixture
def content(tmp_path, scene) -> bytes:
    encode_video(tmp_path / "clip.mp4", Video(scene(1, 60), fps=10), keyframe_interval=8)
    return (tmp_path / "clip.mp4").read_bytes()


@pytest.fixture
def read_numbers(monkeypatch):
    """Numbers of the frames that are decoded, in the order of decoding."""
    numbers = []
    real = ForwardReader.read

    def read(self, number):
        numbers.append(number)
        return real(self, number)

    monkeypatch.setattr(ForwardReader, "read", read)
    return numbers


def look(content, **options):
    with OpenClip(content, [numbers for numbers, _ in ASKED], **options) as opened:
        return [opened.read(numbers, size) for numbers, size in ASKED]


def alone(content):
    return [
        decode(content, frame_indices=numbers, size=size).frames_THWC for numbers, size in ASKED
    ]


def test_each_frame_is_decoded_once_and_is_that_of_decoding_it_alone(content, read_numbers):
    found = look(content)
    assert sorted(read_numbers) == sorted({n for numbers, _ in ASKED for n in numbers.tolist()})
    assert all(map(np.array_equal, found, alone(content)))


@pytest.mark.parametrize("budget_bytes", [0, 20_000])
def test_what_does_not_fit_into_the_budget_is_decoded_again(content, budget_bytes):
    assert all(map(np.array_equal, look(content, budget_bytes=budget_bytes), alone(content)))


def test_frames_are_let_go_when_nobody_asks_any_more(content):
    with OpenClip(content, [numbers for numbers, _ in ASKED]) as opened:
        for numbers, size in ASKED:
            opened.read(numbers, size)
        assert opened._kept == {} and opened._kept_bytes == 0


def test_frames_that_nobody_announced_can_be_read_as_well(content):
    with OpenClip(content, [[50]]) as opened:
        for numbers in ([20], [3, 50, 50], [50], [7]):
            wanted = decode(content, frame_indices=numbers).frames_THWC
            assert np.array_equal(opened.read(numbers), wanted)


def test_a_clip_is_decoded_only_as_far_as_somebody_looks(content, read_numbers):
    with OpenClip(content, [[2], [50]]) as opened:
        opened.read([2])
    assert read_numbers == [2]


def test_another_decoder_gives_its_own_frames(content, monkeypatch):
    asked = []

    def decode_alone(*arguments, **options):
        asked.append(options["frame_indices"].tolist())
        return decode(*arguments, backend="pyav", **options)

    monkeypatch.setattr(frames, "decode", decode_alone)
    with preferred_backend("torchcodec"), OpenClip(content, [[1], [2]]) as opened:
        opened.read([1])
        opened.read([2])
    assert asked == [[1], [2]]


def test_a_damaged_clip_raises(content):
    half = bytearray(content)
    middle = len(half) // 2
    half[middle : middle + 2000] = bytes(2000)
    with OpenClip(bytes(half), [[1], [59]]) as opened, pytest.raises(VideoError):
        opened.read(range(60))
        opened.read([59])
    with OpenClip(b"no video", [[1]]) as opened, pytest.raises(VideoError, match="cannot be"):
        opened.read([1])


def test_a_source_is_listed_once_until_it_changes(tmp_path, scene):
    path = tmp_path / "a.mp4"
    encode_video(path, Video(scene(1, 10), fps=10))
    first = index_source(path)
    assert index_source(path) is first
    encode_video(path, Video(scene(1, 12), fps=10))
    assert index_source(path).info.num_frames == 12


def test_frames_are_spread_over_the_clip():
    assert spread(80, 8).tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    assert spread(3, 8).max() == 2 and spread(1, 2).tolist() == [0, 0]
