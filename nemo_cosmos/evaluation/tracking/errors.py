"""How far a robot's gripper, and the things on its table, are from where they should be.

The path that the true video shows is known from what was recorded with it (:mod:`.locating`), and
the generated video is searched for the same thing (:mod:`.matching`). With a camera, pixels become
centimetres in the plane through the true place that is parallel to the picture. Frames whose truth
lies outside the picture do not count.

``state`` begins with x, y, z of the gripper. ``things`` holds ``position_m`` (T, N, 3), the middle
of each, and ``half_m`` (N,), half its size. Shape suffixes: T frames, N things.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import ConfigError, VideoError
from nemo_cosmos.evaluation.metric import Case, CaseMetric, Frames
from nemo_cosmos.evaluation.tracking.locating import Located, find_moving_as, project
from nemo_cosmos.evaluation.tracking.matching import (
    Floats,
    follow,
    learn_look,
    resized,
    working_scale,
)

GRIPPER_RADIUS_M = 0.14
"""The hand and its fingers."""
OBJECT_HALF_M = 0.03
_OBJECT_MARGIN = 1.5
_RADIUS_PX = (6, 40)
"""Half the side of what is matched, at the working size."""
MIN_MOVES_WITH = 0.25
"""Share of the change in the picture that the recorded path must explain."""
MIN_MOTION_PX = 6.0
"""A path shorter than this, at the working size, explains too little to judge it by that."""


@dataclass(frozen=True)
class Tracked:
    """How far something is from where it should be.

    Attributes:
        error_px_T: distance at each frame, in pixels of the video.
        is_counted_T: frames whose truth is inside the picture.
        is_seen_T: frames in which the generated video shows it.
        m_per_px_T: metres that a pixel is wide there; None without a camera.
    """

    error_px_T: Floats
    is_counted_T: NDArray[np.bool_]
    is_seen_T: NDArray[np.bool_]
    m_per_px_T: Floats | None


def track_gripper(case: Case) -> list[Tracked]:
    """Compare the gripper's path with the true one.

    Args:
        case: a video with its truth, the signal ``state`` and, where there is one, ``camera``.

    Raises:
        VideoError: the true video does not show the gripper, or not long enough.
        ConfigError: the states are no rows that begin with x, y, z.
    """
    positions_T3 = _state_positions(case)
    camera, truth_THWC = case.recorded.get("camera"), _truth(case)
    if camera is not None:
        located = project(positions_T3, GRIPPER_RADIUS_M, camera, _size(truth_THWC))
    else:
        located = find_moving_as(truth_THWC, positions_T3)
    return [_track(case, located, "the gripper")]


def track_objects(case: Case) -> list[Tracked]:
    """Compare the paths of all recorded things that the true video shows.

    Args:
        case: a video with its truth and the signals ``things`` and ``camera``.

    Raises:
        VideoError: the true video shows none.
        ConfigError: ``things`` has no ``position_m`` of shape (T, N, 3), or another ``half_m``.
    """
    things, truth_THWC = case.recorded["things"], _truth(case)
    positions_TN3 = np.asarray(things.get("position_m", np.zeros(0)), np.float64)
    if positions_TN3.shape[:1] != truth_THWC.shape[:1] or positions_TN3.shape[2:] != (3,):
        raise ConfigError(
            f"'things' of '{case.name}' has 'position_m' of shape {positions_TN3.shape}; expected "
            f"({len(truth_THWC)}, N, 3), the middle of each of N things at each frame, in metres."
        )
    count = positions_TN3.shape[1]
    half_N = np.asarray(things.get("half_m", np.full(count, OBJECT_HALF_M)), np.float64)
    if half_N.shape != (count,) or not (half_N > 0).all():
        raise ConfigError(
            f"'things' of '{case.name}' has 'half_m' of shape {half_N.shape}; expected ({count},), "
            "half the size of each thing in metres, above zero."
        )
    found = [
        project(
            positions_TN3[:, n],
            float(half_N[n]) * _OBJECT_MARGIN,
            case.recorded["camera"],
            _size(truth_THWC),
        )
        for n in range(count)
    ]
    shown = [located for located in found if located.is_inside_T.mean() >= 0.5]
    if not shown:
        raise VideoError(
            f"None of the {count} recorded things of '{case.name}' is in the picture for half of "
            "the frames, so that none can be followed. Leave the metric out."
        )
    return [_track(case, located, "a recorded thing") for located in shown]


def _track(case: Case, located: Located, what: str) -> Tracked:
    """Follow one thing in the generated video."""
    truth_THWC = _truth(case)
    if located.is_inside_T.mean() < 0.5:
        raise VideoError(
            f"{what.capitalize()} of '{case.name}' is outside the picture in "
            f"{np.sum(~located.is_inside_T)} of {len(truth_THWC)} frames of the true video, so "
            "that there is no path to compare with. Leave the metric out."
        )
    scale = working_scale(truth_THWC)
    points_T2, is_inside_T = located.points_T2 * scale, located.is_inside_T
    radius = int(np.clip(round(located.radius_px * scale), *_RADIUS_PX))
    pictures_THWC = resized(truth_THWC)
    look = learn_look(pictures_THWC, points_T2, is_inside_T, radius)
    moved_px = float(np.ptp(points_T2[is_inside_T], axis=0).max())
    if moved_px > MIN_MOTION_PX and look.moves_with < MIN_MOVES_WITH:
        raise VideoError(
            f"Nothing in the true video of '{case.name}' moves along the recorded path of {what} "
            f"(it explains {look.moves_with:.0%} of the change there): the camera, the states and "
            "the video do not belong together, or something hides it. Record them together, or "
            "leave the metric out."
        )
    steps = np.linalg.norm(np.diff(points_T2[is_inside_T], axis=0), axis=1)
    reach = 2 * float(steps.max(initial=0))
    start_2 = points_T2[0] if is_inside_T[0] else None
    if located.m_per_px_T is None:
        found = follow(pictures_THWC, look, start_2, reach).points_T2
        off_px = float(np.linalg.norm(found - points_T2, axis=1)[is_inside_T].mean())
        if off_px > radius:
            raise VideoError(
                f"{what.capitalize()} of '{case.name}' cannot be followed in the true video: what "
                f"looks like it is {off_px / scale:.0f} pixels from where the recorded states put "
                "it. Put a 'camera.npz' beside the video, or leave the metric out."
            )
        points_T2 = found
        look = learn_look(pictures_THWC, points_T2, is_inside_T, radius)
        start_2 = points_T2[0] if is_inside_T[0] else None
    path = follow(resized(case.generated_THWC), look, start_2, reach)
    error_px_T = np.linalg.norm(path.points_T2 - points_T2, axis=1) / scale
    return Tracked(error_px_T, is_inside_T, path.is_seen_T, located.m_per_px_T)


def _truth(case: Case) -> Frames:
    assert case.truth_THWC is not None  # every metric here needs it
    return case.truth_THWC


def _size(frames_THWC: Frames) -> tuple[int, int]:
    return frames_THWC.shape[1], frames_THWC.shape[2]


def _state_positions(case: Case) -> Floats:
    states = np.asarray(next(iter(case.recorded["state"].values())), np.float64)
    frames = len(case.generated_THWC)
    if states.ndim != 2 or len(states) != frames or states.shape[1] < 3:
        raise ConfigError(
            f"'state' of '{case.name}' has shape {states.shape}; expected ({frames}, 3 or more), "
            "rows that begin with x, y, z of the gripper. Leave the metric out for other robots."
        )
    return states[:, :3]


class _Remembered:
    """A function of a case that is not computed again for the next metric of the same case.

    Args:
        compute: the function.
    """

    def __init__(self, compute: Callable[[Case], list[Tracked]]) -> None:
        self._compute = compute
        self._last: tuple[Case, list[Tracked]] | None = None

    def __call__(self, case: Case) -> list[Tracked]:
        last = self._last
        if last is None or last[0] is not case:
            last = (case, self._compute(case))
            self._last = last
        return last[1]


_GRIPPER, _OBJECTS = _Remembered(track_gripper), _Remembered(track_objects)
Tracks = Callable[[Case], Sequence[Tracked]]


def _errors_T(one: Tracked, *, in_cm: bool) -> Floats:
    """The error at each frame; between counted frames where the truth is outside."""
    factor_T = 100 * one.m_per_px_T if in_cm and one.m_per_px_T is not None else 1.0
    frames, counted = np.arange(len(one.error_px_T)), np.flatnonzero(one.is_counted_T)
    return np.asarray(np.interp(frames, counted, (one.error_px_T * factor_T)[counted]))


def _metrics(
    name: str, thing: str, tracks: Tracks, needs: frozenset[str], uses: frozenset[str]
) -> tuple[CaseMetric, ...]:
    """The metrics of one kind of thing."""

    def curve(in_cm: bool) -> Callable[[Case], Floats]:
        return lambda case: np.mean([_errors_T(one, in_cm=in_cm) for one in tracks(case)], axis=0)

    def mean(in_cm: bool) -> Callable[[Case], float]:
        return lambda case: float(
            np.mean([_errors_T(one, in_cm=in_cm)[one.is_counted_T].mean() for one in tracks(case)])
        )

    def end(in_cm: bool) -> Callable[[Case], float]:
        return lambda case: float(
            np.mean([_errors_T(one, in_cm=in_cm)[one.is_counted_T][-1] for one in tracks(case)])
        )

    def seen(case: Case) -> float:
        return float(np.mean([one.is_seen_T[one.is_counted_T].mean() for one in tracks(case)]))

    found = []
    for unit, in_cm in (("px", False), ("cm", True)):
        ending = "_cm" if in_cm else ""
        needed = needs | ({"camera"} if in_cm else set())
        found += [
            CaseMetric(
                name=f"{name}_error{ending}",
                unit=unit,
                higher_is_better=False,
                description=f"how far {thing} from the true place, mean over the clip",
                needs=needed,
                uses=uses,
                compute=mean(in_cm),
                per_frame=curve(in_cm),
            ),
            CaseMetric(
                name=f"{name}_end_error{ending}",
                unit=unit,
                higher_is_better=False,
                description=f"how far {thing} from the true place at the end of the clip",
                needs=needed,
                uses=uses,
                compute=end(in_cm),
            ),
        ]
    shown = CaseMetric(
        name=f"{name}_seen",
        higher_is_better=True,
        description=f"share of frames in which there is something that looks like {name} at all",
        needs=needs,
        uses=uses,
        compute=seen,
    )
    return (*found, shown)


(
    GRIPPER_ERROR,
    GRIPPER_END_ERROR,
    GRIPPER_ERROR_CM,
    GRIPPER_END_ERROR_CM,
    GRIPPER_SEEN,
) = _metrics(
    "gripper", "the gripper is", _GRIPPER, frozenset({"truth", "state"}), frozenset({"camera"})
)
(
    OBJECT_ERROR,
    OBJECT_END_ERROR,
    OBJECT_ERROR_CM,
    OBJECT_END_ERROR_CM,
    OBJECT_SEEN,
) = _metrics(
    "object",
    "the recorded things are",
    _OBJECTS,
    frozenset({"truth", "things", "camera"}),
    frozenset(),
)
