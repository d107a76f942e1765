"""Packets without a time among others that have one: lost, left out, or before 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.video import decode, index_frames
from nemo_cosmos.video.index.timestamps import _NONE, _packets_of

#: I, P and B frames: shown 0, 3, 1, 2, 6, 4, 5, 9, 7, 8, decoded in this order.
SHOWN = (0, 3, 1, 2, 6, 4, 5, 9, 7, 8)


def packets(lacking: tuple[int, ...], container: str = "mpegts", is_flagged: bool = True):
    step = 3750
    # FFmpeg's flag that something is missing is on the packet before.
    flagged = [number - 1 for number in lacking] if is_flagged else []
    rows = [
        (number, *((_NONE, _NONE) if number in lacking else (7500 + shown * step, number * step)),
         number == 0, number in flagged, True)
        for number, shown in enumerate(SHOWN)
    ]  # fmt: skip
    return _packets_of(rows, 1 / 90_000, {container}, False)


@pytest.mark.parametrize("lacking", [(2,), (5,), (6,), (8,), (2, 8)])
def test_a_packet_without_a_time_fills_the_gap_and_counts_as_damaged(lacking):
    found = packets(lacking)
    assert found.pts_N.tolist() == [7500 + 3750 * shown for shown in SHOWN]
    assert np.flatnonzero(found.is_corrupt_N).tolist()[-1] == lacking[-1]
    assert set(lacking) <= set(np.flatnonzero(found.is_corrupt_N).tolist())
    assert found.is_timed and not found.is_seekable


def test_the_last_one_without_a_time_follows_the_others():
    found = packets((7,))
    assert len(set(found.pts_N.tolist())) == len(SHOWN)
    assert found.pts_N.min() == 7500 and found.pts_N.max() <= 7500 + 10 * 3750


def test_where_many_lack_a_time_none_is_believed():
    assert not packets((1, 2, 3, 4)).is_timed


@pytest.mark.parametrize("container", ["mpegts", "mpeg", "matroska", "avi"])
@pytest.mark.parametrize("lacking", [(0,), (0, 1), (4,)])
def test_a_packet_without_a_time_is_whole_where_nothing_else_is_missing(container, lacking):
    found = packets(lacking, container, is_flagged=False)
    assert not found.is_corrupt_N.any()
    assert not found.is_timed and not found.is_seekable


def without_times(path: Path, pictures: tuple[int, ...]) -> None:
    """Leave out the times of some pictures of a transport stream, which are optional."""
    content, number = bytearray(path.read_bytes()), 0
    for place in range(0, len(content), 188):
        # The video's identifier is 0x100; the flag says that a picture begins here.
        if int.from_bytes(content[place + 1 : place + 3], "big") & 0x5FFF != 0x4100:
            continue
        has_field = content[place + 3] & 0x20
        header = place + 4 + (1 + content[place + 4] if has_field else 0)
        if number in pictures:
            length = content[header + 8]
            content[header + 7] &= 0x3F
            content[header + 9 : header + 9 + length] = b"\xff" * length
        number += 1
    path.write_bytes(content)


@pytest.mark.parametrize("pictures", [(10,), (24,), (13, 14), (5, 10, 15, 20)])
def test_a_transport_stream_that_leaves_out_times_is_whole(mux, pictures):
    path = mux("sparse.ts", range(25), bf="2")
    everything = decode(path).frames_THWC
    without_times(path, pictures)
    index = index_frames(path)
    assert not index.seekable and not index.damaged_T.any()
    np.testing.assert_array_equal(decode(path).frames_THWC, everything)
