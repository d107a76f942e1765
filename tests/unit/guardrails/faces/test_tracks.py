"""No frame of a track is left uncovered."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nemo_cosmos.guardrails.faces.boxes import Face
from nemo_cosmos.guardrails.faces.tracks import HOLD_FRAMES, MAX_GAP_FRAMES, between, cover


def at(x: float, score: float = 0.9, size: float = 40.0) -> Face:
    return Face(x, 10, size, size, score)


def covers(boxes: list[Face], x: float) -> bool:
    """Whether a box covers the middle half of a 40 px face at x."""
    return any(box.x <= x + 10 and box.x + box.width >= x + 30 for box in boxes)


def test_a_gap_is_filled_on_the_way():
    faces = [[at(0)], [], [], [at(12)]]
    assert [boxes[0].x for boxes in cover(faces)] == pytest.approx([0, 4, 8, 12])


def test_a_track_is_held_before_its_first_and_after_its_last_frame():
    faces = [[] for _ in range(20)]
    faces[10] = [at(50)]
    covered = [bool(boxes) for boxes in cover(faces)]
    assert covered == [abs(frame - 10) <= HOLD_FRAMES for frame in range(20)]


def test_weak_detections_continue_a_track_both_ways_and_begin_none():
    weak = [[at(4 * frame, 0.4)] for frame in range(30)]
    assert cover(weak) == [[]] * 30
    weak[15] = [at(60)]
    assert all(covers(boxes, 4 * frame) for frame, boxes in enumerate(cover(weak)))


def test_a_small_face_begins_no_track_but_may_end_one():
    assert cover([[at(0, size=19)]] * 3) == [[]] * 3
    shrinking = [[Face(0, 0, size, size, 0.9)] for size in range(24, 14, -1)]
    assert all(cover(shrinking))


def test_two_faces_that_pass_each_other_are_both_covered():
    def place(frame):
        return 5.0 * frame, 200 - 5.0 * frame

    faces = [[at(x) for x in place(frame)] for frame in range(41)]
    for missing in (7, 8, 20, 33):
        faces[missing] = []
    for frame, boxes in enumerate(cover(faces)):
        assert all(covers(boxes, x) for x in place(frame)), frame


def test_after_a_long_gap_there_is_no_bridge():
    faces = [[at(0)], *([[]] * (MAX_GAP_FRAMES + 1)), [at(0)]]
    assert not cover(faces)[MAX_GAP_FRAMES // 2 + 1]


def test_a_video_without_faces_and_one_without_frames():
    assert cover([[], []]) == [[], []]
    assert cover([]) == []


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.booleans(), min_size=2, max_size=60),
    st.floats(-4, 4),
    st.floats(0.7, 1),
)
def test_no_frame_between_two_detections_is_missed(seen, speed, score):
    faces = [[at(speed * n, score)] if is_seen else [] for n, is_seen in enumerate(seen)]
    covered = cover(faces)
    known = [n for n, is_seen in enumerate(seen) if is_seen]
    for first, second in itertools.pairwise(known):
        if second - first <= 8:
            assert all(covers(covered[n], speed * n) for n in range(first, second + 1))


def test_between():
    assert between(Face(0, 0, 10, 10, 1), Face(4, 8, 20, 30, 0.5), 0.5) == Face(2, 4, 15, 20, 0.75)


def doubtful(x: float, score: float = 0.9) -> Face:
    return replace(at(x, score), certain=False)


def never(frame: int, face: Face) -> bool:
    return False


def test_a_doubtful_track_is_covered_if_two_looks_out_of_three_confirm_it():
    faces = [[doubtful(2 * frame)] for frame in range(18)]
    assert cover(faces, never) == [[]] * 18
    looks: list[int] = []

    def confirm_later(frame: int, face: Face) -> bool:
        looks.append(frame)
        assert face in faces[frame]
        return frame >= 6

    assert all(cover(faces, confirm_later))
    # One look in each third, forwards and backwards in time.
    assert {frame // 6 for frame in looks} == {0, 1, 2}
    assert cover(faces, lambda frame, face: frame < 6) == [[]] * 18


def test_one_certain_detection_of_many_needs_one_look_more():
    faces = [[doubtful(0)] for _ in range(17)]
    faces[3] = [at(0)]
    assert cover(faces, never) == [[]] * 17
    assert all(cover(faces, lambda frame, face: True))
    faces[9] = [at(0)]
    assert all(cover(faces, never))


def test_a_picture_needs_one_confirmation():
    assert all(cover([[at(0)]], never))
    assert cover([[doubtful(0)]], never) == [[]]
    assert all(cover([[doubtful(0)]], lambda frame, face: True))


@pytest.mark.parametrize("frame", [0, 4, 8])
def test_what_is_seen_in_one_frame_must_be_in_the_next_or_last_one_too(frame):
    flash = [[] for _ in range(9)]
    flash[frame] = [doubtful(0)]
    assert cover(flash, lambda n, face: n == frame) == [[]] * 9
    beside = frame - 1 if frame else 1
    assert cover(flash, lambda n, face: n in (frame, beside))[frame]
    flash[frame] = [at(0)]
    assert cover(flash, never) == [[]] * 9
    assert cover(flash, lambda n, face: n == beside)[frame]


def test_weak_detections_are_not_looked_at_again():
    faces = [[at(0)], [at(0)], *([doubtful(0, score=0.5)] for _ in range(8))]

    def fail(frame: int, face: Face) -> bool:
        raise AssertionError(frame)

    assert all(cover(faces, fail))
