"""Windows of captions, as cosmos-curate cuts them."""

from __future__ import annotations

import pytest

from data_curation.captions.windows import caption_windows, window_frame_numbers


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        (1, [(0, 1)]),
        (255, [(0, 255)]),
        (256, [(0, 256)]),
        (383, [(0, 383)]),  # a rest of 127 belongs to the last window
        (384, [(0, 256), (256, 384)]),
        (512, [(0, 256), (256, 512)]),
        (800, [(0, 256), (256, 512), (512, 800)]),
    ],
)
def test_windows(num_frames, expected):
    assert caption_windows(num_frames) == expected


def test_frames_of_a_window_are_two_a_second():
    assert window_frame_numbers(0, 60, 30, 2).tolist() == [7, 22, 37, 52]
    assert window_frame_numbers(256, 260, 30, 2).tolist() == [258]
    assert len(window_frame_numbers(0, 256, 24, 2)) == 21
