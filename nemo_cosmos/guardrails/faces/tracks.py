"""Follow faces through a video, to cover frames in which a face was not found.

A sure detection begins a track. In the frames before and after, a less sure detection continues it
if it overlaps the expected place (as in ByteTrack, Zhang et al. 2022). Between two detections of a
track, boxes are interpolated; before the first and after the last one, the box is held for a few
frames. A track never crosses a cut by more than that.

A blurred robot arm may look like a face to a network. A track is therefore covered only if a face
is beyond doubt in two frames, at once or after a second look.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from nemo_cosmos.guardrails.faces.boxes import SCORE_THRESHOLD, Face, overlap

#: Frames without a detection after which a track has ended.
MAX_GAP_FRAMES = 24
#: Frames for which a box is held before and after its track.
HOLD_FRAMES = 4
#: Frames in which a track must be beyond doubt; a picture has one.
MIN_CONFIRMED = 2
#: Uncertain detections of a track that are looked at again.
NUM_LOOKS = 3
#: Overlap (IoU) with the expected place that continues a track.
MIN_OVERLAP = 0.2

Confirm = Callable[[int, Face], bool]
"""Takes the number of a frame and the box of a face in doubt: whether a face is there after all."""


@dataclass
class Track:
    """The detections of one face by frame, in order."""

    faces: dict[int, Face] = field(default_factory=dict)

    @property
    def last_frame(self) -> int:
        """The last frame in which the face was found."""
        return max(self.faces)

    def expected(self, frame: int) -> Face:
        """Return where the face should be in a later frame if it keeps its motion."""
        *before, last = sorted(self.faces)
        face = self.faces[last]
        if not before:
            return face
        earlier = self.faces[before[-1]]
        steps = min(frame - last, HOLD_FRAMES) / (last - before[-1])
        return replace(
            face, x=face.x + (face.x - earlier.x) * steps, y=face.y + (face.y - earlier.y) * steps
        )


def cover(
    faces_T: Sequence[Sequence[Face]], confirm: Confirm = lambda frame, face: True
) -> list[list[Face]]:
    """Return the boxes to cover in every frame.

    Args:
        faces_T: the detections of each frame, sure and less sure.
        confirm: takes a second look at a place in a frame; by default, the detector is believed.

    Returns:
        For every frame, all sure faces that are large enough and confirmed, and the places of
        those faces in nearby frames in which they were less sure or not found.
    """
    forward = _cover_forward(faces_T, confirm)
    last = len(faces_T) - 1
    backward = _cover_forward(faces_T[::-1], lambda frame, face: confirm(last - frame, face))[::-1]
    return [list(dict.fromkeys(a + b)) for a, b in zip(forward, backward, strict=True)]


def between(a: Face, b: Face, share: float) -> Face:
    """Interpolate from box ``a`` (share 0) to box ``b`` (share 1)."""
    names = ("x", "y", "width", "height", "score")
    ends = {name: (getattr(a, name), getattr(b, name)) for name in names}
    return replace(a, **{name: s + (e - s) * share for name, (s, e) in ends.items()})


def _cover_forward(faces_T: Sequence[Sequence[Face]], confirm: Confirm) -> list[list[Face]]:
    """Return the boxes of tracks, each followed from its first sure detection on."""
    covered: list[list[Face]] = [[] for _ in faces_T]
    for track in _follow(faces_T):
        if not _is_face(track, len(faces_T), confirm):
            continue
        known = sorted(track.faces)
        for first, second in itertools.pairwise(known):
            for frame in range(first, second):
                share = (frame - first) / (second - first)
                covered[frame].append(between(track.faces[first], track.faces[second], share))
        for frame in range(known[-1], min(known[-1] + HOLD_FRAMES + 1, len(faces_T))):
            covered[frame].append(track.faces[known[-1]])
    return covered


def _follow(faces_T: Sequence[Sequence[Face]]) -> list[Track]:
    """Link detections, the best overlap of a frame first."""
    tracks: list[Track] = []
    for frame, faces in enumerate(faces_T):
        active = [track for track in tracks if frame - track.last_frame <= MAX_GAP_FRAMES]
        pairs = [
            (overlap(track.expected(frame), face), track_number, face_number)
            for track_number, track in enumerate(active)
            for face_number, face in enumerate(faces)
        ]
        free_tracks, free_faces = set(range(len(active))), set(range(len(faces)))
        for shared, track_number, face_number in sorted(pairs, reverse=True):
            if shared < MIN_OVERLAP:
                break
            if track_number in free_tracks and face_number in free_faces:
                active[track_number].faces[frame] = faces[face_number]
                free_tracks.remove(track_number)
                free_faces.remove(face_number)
        tracks += [Track({frame: faces[n]}) for n in sorted(free_faces) if _begins(faces[n])]
    return tracks


def _is_face(track: Track, num_frames: int, confirm: Confirm) -> bool:
    """Whether a track is beyond doubt in enough frames."""
    needed = min(MIN_CONFIRMED, num_frames)
    needed -= sum(face.certain for face in track.faces.values())
    looks = _doubtful(track, num_frames)
    while needed > 0 and looks:
        needed -= confirm(*looks.pop(0))
    return needed <= 0


def _doubtful(track: Track, num_frames: int) -> list[tuple[int, Face]]:
    """Return the frames and boxes of a track that deserve a second look, at most three."""
    sure = [(n, face) for n, face in track.faces.items() if face.score >= SCORE_THRESHOLD]
    doubtful = [(frame, face) for frame, face in sure if not face.certain]
    # The best of each third, so that the looks are at different moments.
    size = -(-len(doubtful) // NUM_LOOKS) or 1
    thirds = [doubtful[start : start + size] for start in range(0, len(doubtful), size)]
    looks = [max(third, key=lambda item: item[1].score) for third in thirds]
    if len(sure) == 1:  # a real face is still there in the frame before or after
        frame, face = sure[0]
        looks += [(n, face) for n in (frame - 1, frame + 1) if 0 <= n < num_frames]
    return looks


def _begins(face: Face) -> bool:
    return face.score >= SCORE_THRESHOLD and face.is_large
