"""Packets that lost their time among others that have one."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.video.timestamps import _NONE, _packets_of

#: I, P and B frames: shown 0, 3, 1, 2, 6, 4, 5, 9, 7, 8, decoded in this order.
SHOWN = (0, 3, 1, 2, 6, 4, 5, 9, 7, 8)


def packets(lacking: tuple[int, ...], step: int = 3750):
    rows = [
        (number, *((_NONE, _NONE) if number in lacking else (7500 + shown * step, number * step)),
         number == 0, False, True)
        for number, shown in enumerate(SHOWN)
    ]  # fmt: skip
    return _packets_of(rows, 1 / 90_000, {"mpegts"}, False)


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
