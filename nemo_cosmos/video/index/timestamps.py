"""When each frame of a stream is shown, read from its packets: joins, jumps and damage included.

Terms: packets stand in a file in *decoding order*; frames are *shown* in the order of their
presentation timestamps (pts). A *join* is a place where timestamps begin again, as in recordings
that were concatenated or whose recorder was restarted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

#: A step back of the decoding time by more than this is a join; less is a muxer's inaccuracy.
_BACK_S = 0.2
#: In transport and program streams, where timestamps may be restarted at any time, a step forward
#: by more than this is a join as well. It is FFmpeg's ``-dts_delta_threshold``.
_FORWARD_S = 10.0
_RESTARTING = frozenset(("mpegts", "mpeg"))
#: AVI stores frames in decoding order, and FFmpeg invents timestamps in that order.
_IN_DECODING_ORDER = frozenset(("avi",))
#: Bare streams carry no times at all; FFmpeg counts packets.
_BARE = frozenset(("mpegvideo", "m4v", "h261", "h263", "h264", "hevc", "vvc", "mjpeg", "obu"))
_NONE = np.iinfo(np.int64).min
#: Of a transport or program stream, the share of packets that may have lost their times; and how
#: many frames a packet may stand in front of the place where it is shown.
_MOST_WITHOUT_TIME, _REORDERED = 0.2, 16


@dataclass(frozen=True)
class Packets:
    """The packets of shown frames of one stream, in decoding order.

    Attributes:
        number_N: place of each among all packets of the stream, from 0.
        pts_N: presentation timestamps; those after a join continue those before it.
        group_N: number of the keyframes up to it, from 1: frames refer to those of their own group;
            0 where none comes before it, so that it cannot be decoded.
        is_leading_N: whether it is shown before the keyframe of its group, and so may refer to the
            group before as well.
        is_corrupt_N: whether the demuxer says that a part is missing.
        keyframe_pts: timestamps of all packets at which decoding can start, increasing; also of
            those that are not shown.
        section_N: number of joins before it.
        is_timed: whether ``pts_N`` says in which order the frames are shown.
        is_bare: whether ``pts_N`` is a mere count.
        is_encrypted: whether some are, so that their pictures cannot be decoded.
        is_seekable: whether ``pts_N`` are the timestamps that the container seeks by and the
            decoder returns, each of one frame.
    """

    number_N: NDArray[np.int64]
    pts_N: NDArray[np.int64]
    group_N: NDArray[np.int64]
    is_leading_N: NDArray[np.bool_]
    is_corrupt_N: NDArray[np.bool_]
    keyframe_pts: NDArray[np.int64]
    section_N: NDArray[np.int64]
    is_timed: bool
    is_bare: bool
    is_encrypted: bool
    is_seekable: bool

    def __len__(self) -> int:
        return len(self.number_N)


def read_packets(container: av.container.InputContainer, stream: av.VideoStream) -> Packets:
    """List the packets of a stream without decoding any."""
    rows: list[tuple[int, int, int, bool, bool, bool]] = []
    is_encrypted = False
    for number, packet in enumerate(container.demux(stream)):
        if packet.size == 0:  # a repeated frame of AVI, or the flush packet at the end
            continue
        is_encrypted |= packet.has_sidedata("encryption_info")
        rows.append(
            (
                number,
                _NONE if packet.pts is None else packet.pts,
                _NONE if packet.dts is None else packet.dts,
                packet.is_keyframe,
                packet.is_corrupt,
                # Packets outside the edit list are needed for decoding but never shown.
                not packet.is_discard and not _is_hidden(packet, stream),
            )
        )
    names = set(container.format.name.split(","))
    return _packets_of(rows, float(stream.time_base or 1), names, is_encrypted)


def _is_hidden(packet: av.Packet, stream: av.VideoStream) -> bool:
    """Whether it holds one of VP8's reference frames that are never shown (RFC 6386, 9.1)."""
    return stream.codec_context.name == "vp8" and not memoryview(packet)[0] >> 4 & 1


def _packets_of(
    rows: list[tuple[int, int, int, bool, bool, bool]],
    tick_s: float,
    names: set[str],
    is_encrypted: bool,
) -> Packets:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 6).T
    number, stored_pts, dts, key, corrupt, shown = columns
    lacks_time_N = stored_pts == _NONE
    # A packet without a time may be whole: these streams need not give each one, and in Matroska
    # FFmpeg knows none before 0. Then the decoder's order is right, and a guess at gaps is not.
    has_lost = bool(names & _RESTARTING) and bool(corrupt.any())
    if has_lost and 0 < lacks_time_N.sum() <= _MOST_WITHOUT_TIME * len(rows):
        stored_pts = _filled(stored_pts)
    has_times = bool((stored_pts != _NONE).all()) and len(rows) > 0
    # An edit list with several parts goes back to a keyframe in packets that are not shown.
    timed = np.where(shown.astype(bool), dts, _NONE)
    joins = _joins(timed, tick_s, bool(names & _RESTARTING)) if has_times else []
    pts = _continued(stored_pts, joins) if joins else stored_pts
    section_N = np.searchsorted(joins, np.arange(len(rows)), side="right")
    is_key, is_shown = key.astype(bool), shown.astype(bool)
    group_N, is_leading_N = _groups(pts, is_key, section_N)
    keyframe_pts = np.unique(pts[is_key]) if has_times else np.zeros(0, np.int64)
    is_unique = len(np.unique(pts[is_shown])) == int(is_shown.sum())
    is_bare = bool(names & _BARE)
    is_timed = has_times and not is_bare and not names & _IN_DECODING_ORDER
    return Packets(
        number_N=number[is_shown],
        pts_N=pts[is_shown],
        group_N=group_N[is_shown],
        is_leading_N=(is_leading_N & is_timed)[is_shown],
        is_corrupt_N=(_corrupt(corrupt.astype(bool), joins, names) | lacks_time_N & has_times)[
            is_shown
        ],
        keyframe_pts=keyframe_pts,
        section_N=section_N[is_shown],
        is_timed=is_timed,
        is_bare=is_bare,
        is_encrypted=is_encrypted,
        is_seekable=is_timed
        and is_unique
        and not joins
        and not lacks_time_N.any()
        and len(keyframe_pts) > 0,
    )


def _filled(pts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Timestamps in which those that are missing, of packets whose header was lost, fill gaps."""
    known = np.unique(pts[pts != _NONE])
    step = max(1, int(np.median(np.diff(known)))) if len(known) > 1 else 1
    gaps = known[:-1][np.diff(known) > 1.5 * step].tolist()
    taken, filled = set(known.tolist()), pts.copy()
    for place in np.flatnonzero(pts == _NONE).tolist():
        before = filled[:place]
        last = int(before.max(initial=int(known[0])))
        start = min(gaps, key=lambda gap: abs(gap - last), default=last)
        near = abs(start - last) <= _REORDERED * step
        time = start + step if near and gaps else last + 1
        while time in taken:
            time += 1
        gaps = [gap for gap in gaps if gap != start]
        taken.add(time)
        filled[place] = time
    return filled


def _corrupt(flag_N: NDArray[np.bool_], joins: list[int], names: set[str]) -> NDArray[np.bool_]:
    """The packets of which a part is missing, by the demuxer's flags."""
    if not names & _RESTARTING:
        return flag_N
    # The frame in which a part is missing leaves FFmpeg's parser together with the next one; the
    # flag is on the one before it.
    late_N = np.append(False, flag_N[:-1])
    late_N[-1:] |= flag_N[-1:]
    for join in joins:  # the counters of recordings that were joined do not go on, either
        late_N[join - 2 : join] = False
    return late_N


def _groups(
    pts: NDArray[np.int64], is_key: NDArray[np.bool_], section: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """``group_N`` and ``is_leading_N`` of :class:`Packets`."""
    if not is_key.any():  # nothing is known
        return np.ones(len(pts), dtype=np.int64), np.zeros(len(pts), dtype=bool)
    count = np.cumsum(is_key)
    first_of_section = np.searchsorted(section, section)
    before_section = np.where(first_of_section > 0, count[first_of_section - 1], 0)
    group = np.where(count > before_section, count, 0)
    return group, (group > 0) & (pts < pts[is_key][count - 1])


def _joins(dts: NDArray[np.int64], tick_s: float, restarts: bool) -> list[int]:
    """Places of the packets before which timestamps begin again."""
    known = np.flatnonzero(dts != _NONE)
    step_s = np.diff(dts[known]).astype(np.float64) * tick_s
    is_join = (step_s < -_BACK_S) | (restarts & (step_s > _FORWARD_S))
    return cast("list[int]", known[1:][is_join].tolist())


def _continued(pts: NDArray[np.int64], joins: list[int]) -> NDArray[np.int64]:
    """Timestamps that go on after each join with the usual step."""
    parts = np.split(pts, joins)
    end = None
    moved = []
    for part in parts:
        steps = np.diff(np.sort(part))
        step = int(np.median(steps[steps > 0])) if (steps > 0).any() else 1
        part = part - (part.min() - end) if end is not None else part
        end = int(part.max()) + step
        moved.append(part)
    return np.concatenate(moved)


def spread_damage(
    bad_T: NDArray[np.bool_],
    packet_T: NDArray[np.int64],
    group_T: NDArray[np.int64],
    is_leading_T: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which frames cannot be trusted, when some are missing or damaged.

    A frame refers to others of its group that are decoded before it, so that damage lasts until the
    next keyframe; those that are shown before their keyframe refer to the group before as well.

    Args:
        bad_T: frames that are missing or damaged themselves, in the order shown.
        packet_T: place of each in decoding order.
        group_T: group of each; see :class:`Packets`.
        is_leading_T: whether it is shown before the keyframe of its group.
    """
    never = np.iinfo(np.int64).max
    first_bad = np.full(int(group_T.max(initial=0)) + 2, never)
    np.minimum.at(first_bad, group_T[bad_T], packet_T[bad_T])
    is_known = np.zeros(len(first_bad), dtype=bool)
    is_known[group_T[~is_leading_T]] = True
    is_known[0] = False
    before_T = np.maximum(group_T - 1, 0)
    before_is_lost_T = ~is_known[before_T] | (first_bad[before_T] != never)
    return (
        bad_T
        | (group_T == 0)
        | (packet_T >= first_bad[group_T])
        | (is_leading_T & before_is_lost_T)
    )
