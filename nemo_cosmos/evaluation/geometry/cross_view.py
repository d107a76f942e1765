"""Do several cameras show one world? Errors and counts of what two views have in common.

- ``cross_view_sampson_sift`` (CSE): one fundamental matrix is fitted to the matches of two views
  over the whole clip, since the cameras stand still to each other; then the median root Sampson
  error of each frame, and the mean over frames and pairs of views.
- ``cross_view_given_camera_sift``: the same with the matrix that the given cameras decide.
- ``cross_view_agreement_sift``: how many matches fit the true geometry, as a share of those between
  the true views. The errors above cannot see views that have nothing in common; this one does.

Which views see the same is decided by their cameras where they are given, else by the true views,
else by the generated ones: never by how well a model did where there is a truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.controls import Values, fit_camera
from nemo_cosmos.controls.camera import pixel_rays, project_rays
from nemo_cosmos.errors import VideoError
from nemo_cosmos.evaluation.geometry.epipolar import (
    MIN_MATCHES,
    Lens,
    fit_fundamental,
    given_errors,
    sampson_errors,
    scale_of,
)
from nemo_cosmos.evaluation.geometry.points import (
    Keypoints,
    Points,
    describe_sift,
    fill_gaps,
    find_keypoints,
    match,
)
from nemo_cosmos.evaluation.metric import Case, CaseMetric, Frames, View

MIN_FRAME_MATCHES = 4
"""A frame with fewer has no median."""
MIN_OVERLAP = 0.1
"""Share of a picture that another camera must see, so that both count as seeing the same."""
MIN_FITTING = 0.12
"""Share of matches that must fit one geometry, so that two views count as seeing the same; of
random matches RANSAC makes some 5 to 9 % fit."""
AGREES_PX = 2.0
MAIN = "main"
"""Name of the camera whose file is the video's own."""

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """What two views have in common over a clip.

    Attributes:
        first_N2: points of the first view, of all frames, in the pixels that errors are given in.
        second_N2: the matched points of the second view.
        frame_N: the frame of each.
    """

    first_N2: Points
    second_N2: Points
    frame_N: NDArray[np.intp]


@dataclass(frozen=True)
class _Camera:
    """A view with what is known of it."""

    frames_THWC: Frames
    values: Values | None

    def lens(self, frame: int) -> Lens | None:
        return Lens(self.values, frame) if self.values is not None else None

    def place(self, points_N2: Points, frame: int) -> tuple[Points, NDArray[np.bool_]]:
        """Points in the pixels that errors are given in; a fisheye's in a pinhole's picture."""
        lens = self.lens(frame)
        if lens is not None:
            return lens.move(points_N2)
        scale = scale_of(self.frames_THWC.shape[1:3])
        return points_N2 * scale, np.ones(len(points_N2), np.bool_)


class Rig:
    """The views of a video, generated or true, and their matches.

    Args:
        case: the video.
        is_truth: whether the true views are meant.

    Raises:
        VideoError: the true views are meant, and one is missing.
    """

    def __init__(self, case: Case, *, is_truth: bool = False) -> None:
        main = View(case.generated_THWC, case.truth_THWC, case.recorded)
        self.name = case.name
        self.cameras: dict[str, _Camera] = {}
        for view_name, view in {MAIN: main, **case.views}.items():
            frames_THWC = view.truth_THWC if is_truth else view.generated_THWC
            if frames_THWC is None:
                raise VideoError(
                    f"The view '{view_name}' of '{case.name}' has no true video to compare with. "
                    "Put it beside the others, or leave the metric out."
                )
            values = view.recorded.get("camera")
            if values is not None:
                values = fit_camera(values, frames_THWC.shape[1:3])
            self.cameras[view_name] = _Camera(frames_THWC, values)
        self._keypoints: dict[str, list[Keypoints]] = {}
        self._matches: dict[tuple[str, str], Matches] = {}

    @property
    def is_calibrated(self) -> bool:
        """Whether the camera of each view is known."""
        return all(camera.values is not None for camera in self.cameras.values())

    def matches(self, pair: tuple[str, str]) -> Matches:
        """Matches of two views over all frames."""
        if pair not in self._matches:
            found = [
                self._frame_matches(pair, frame)
                for frame in range(len(self.cameras[MAIN].frames_THWC))
            ]
            counts = [len(first_N2) for first_N2, _ in found]
            self._matches[pair] = Matches(
                np.concatenate([first_N2 for first_N2, _ in found]),
                np.concatenate([second_N2 for _, second_N2 in found]),
                np.repeat(np.arange(len(found)), counts),
            )
        return self._matches[pair]

    def _frame_matches(self, pair: tuple[str, str], frame: int) -> tuple[Points, Points]:
        for name in pair:
            if name not in self._keypoints:
                self._keypoints[name] = find_keypoints(self.cameras[name].frames_THWC)
        points = match(*(self._keypoints[name][frame] for name in pair), is_mutual=True)
        placed = [
            self.cameras[name].place(points_N2, frame)
            for name, points_N2 in zip(pair, points, strict=True)
        ]
        is_shown_N = placed[0][1] & placed[1][1]
        return placed[0][0][is_shown_N], placed[1][0][is_shown_N]

    def overlapping(self) -> list[tuple[str, str]]:
        """Pairs of views that see the same, by their cameras if those are known."""
        pairs = list(combinations(self.cameras, 2))
        if self.is_calibrated:
            return [pair for pair in pairs if self._sees_the_same(pair)]
        found = []
        for pair in pairs:
            both = self.matches(pair)
            fitted = fit_fundamental(both.first_N2, both.second_N2)
            if fitted is not None and fitted[1] >= MIN_FITTING * len(both.first_N2):
                found.append(pair)
        return found

    def _sees_the_same(self, pair: tuple[str, str]) -> bool:
        first, second = (self.cameras[name].values for name in pair)
        assert first is not None and second is not None
        return min(_overlap(first, second), _overlap(second, first)) >= MIN_OVERLAP

    def errors(self, pair: tuple[str, str], *, is_given: bool) -> Curve | None:
        """Root Sampson error of each match of two views, ``(N,)``; None where nothing fits.

        Args:
            pair: names of the views.
            is_given: whether the given cameras decide the geometry, else a fit does.
        """
        both = self.matches(pair)
        if not is_given:
            fitted = fit_fundamental(both.first_N2, both.second_N2)
            if fitted is None:
                return None
            return sampson_errors(both.first_N2, both.second_N2, fitted[0])
        errors_N = np.zeros(len(both.frame_N))
        for frame in np.unique(both.frame_N):
            of_frame_N = both.frame_N == frame
            lenses = [self.cameras[name].lens(int(frame)) for name in pair]
            assert lenses[0] is not None and lenses[1] is not None
            errors_N[of_frame_N] = given_errors(
                lenses[0], lenses[1], both.first_N2[of_frame_N], both.second_N2[of_frame_N]
            )
        return errors_N


def cross_view_errors(case: Case) -> Curve:
    """CSE of each frame, ``(T,)`` in pixels, with a geometry fitted to each two views."""
    return _error_curve(case, is_given=False)


def given_camera_view_errors(case: Case) -> Curve:
    """CSE of each frame, ``(T,)`` in pixels, with the geometry of the given cameras."""
    _check_calibrated(case)
    return _error_curve(case, is_given=True)


def view_agreement(case: Case) -> float:
    """Matches of the generated views that fit the true geometry, as a share of the true views'.

    The geometry is that of the given cameras, else it is fitted to the true views. At most 1.

    Args:
        case: a video with views and truth.

    Raises:
        VideoError: no two true views have enough in common.
    """
    truth, made = Rig(case, is_truth=True), Rig(case)
    num_true = num_made = 0
    for pair in truth.overlapping():
        true = truth.matches(pair)
        if truth.is_calibrated:
            errors = [rig.errors(pair, is_given=True) for rig in (truth, made)]
        else:
            fitted = fit_fundamental(true.first_N2, true.second_N2)
            assert fitted is not None  # views overlap where a geometry fits
            errors = [
                sampson_errors(both.first_N2, both.second_N2, fitted[0])
                for both in (true, made.matches(pair))
            ]
        agreeing = [int((one < AGREES_PX).sum()) for one in errors if one is not None]
        num_true, num_made = num_true + agreeing[0], num_made + agreeing[1]
    if num_true < MIN_MATCHES:
        raise VideoError(_nothing_shared(case.name, "true"))
    return min(1.0, num_made / num_true)


def _error_curve(case: Case, *, is_given: bool) -> Curve:
    rig = Rig(case)
    has_truth = case.truth_THWC is not None and all(
        view.truth_THWC is not None for view in case.views.values()
    )
    by = Rig(case, is_truth=True) if has_truth and not rig.is_calibrated else rig
    curves = []
    for pair in by.overlapping():
        errors_N = rig.errors(pair, is_given=is_given)
        frame_N = rig.matches(pair).frame_N
        if errors_N is None or len(frame_N) < MIN_MATCHES:
            continue
        curves.append(_medians(errors_N, frame_N, len(case.generated_THWC)))
    curves = [curve_T for curve_T in curves if np.isfinite(curve_T).any()]
    if not curves:
        raise VideoError(_nothing_shared(case.name, "generated"))
    return np.asarray(np.mean([fill_gaps(curve_T) for curve_T in curves], axis=0))


def _medians(errors_N: Curve, frame_N: NDArray[np.intp], num_frames: int) -> Curve:
    """Median of each frame's errors; NaN where there are too few."""
    curve_T = np.full(num_frames, np.nan)
    for frame in range(num_frames):
        of_frame_N = errors_N[frame_N == frame]
        if len(of_frame_N) >= MIN_FRAME_MATCHES:
            curve_T[frame] = np.median(of_frame_N)
    return curve_T


def _overlap(first: Values, second: Values) -> float:
    """Largest share of the first picture that the second camera sees, over some depths.

    Args:
        first: the arrays of one camera.
        second: those of the other.
    """
    height, width = (float(side) for side in first["size"])
    columns, rows = np.meshgrid((np.arange(24) + 0.5) / 24 * width, (np.arange(14) + 0.5) / 14)
    pixels_N2 = np.stack([columns.ravel(), rows.ravel() * height], axis=1)
    ahead, there = (np.asarray(one["poses"][0], np.float64) for one in (first, second))
    rays_N3 = pixel_rays(first, 0, pixels_N2) @ ahead[:3, :3].T
    apart_m = float(np.linalg.norm(ahead[:3, 3] - there[:3, 3]))
    far_height, far_width = (float(side) for side in second["size"])
    shares = []
    for depth in (3, 10, 100):  # in distances between the two cameras; any will do for none
        points_N3 = ahead[:3, 3] + rays_N3 * depth * max(apart_m, 1e-3) - there[:3, 3]
        seen_N2 = project_rays(second, 0, points_N3 @ there[:3, :3])
        is_inside_N = (seen_N2 > 0).all(axis=1) & (seen_N2 < (far_width, far_height)).all(axis=1)
        shares.append(float(is_inside_N.mean()))
    return max(shares)


def _check_calibrated(case: Case) -> None:
    recorded: Mapping[str, Mapping[str, Values]] = {
        MAIN: case.recorded,
        **{name: view.recorded for name, view in case.views.items()},
    }
    missing = [name for name, signals in recorded.items() if not signals.get("camera")]
    if missing:
        raise VideoError(
            f"The camera of view '{missing[0]}' of '{case.name}' is not known. Put it beside the "
            f"video of that view, as NAME.{missing[0]}.camera.npz, or leave the metric out."
        )


def _nothing_shared(name: str, which: str) -> str:
    return (
        f"No two {which} views of '{name}' have enough points in common: they look in different "
        "directions, or the pictures are too blurred, too small or without texture. Leave the "
        "metric out."
    )


CROSS_VIEW_SAMPSON_SIFT = CaseMetric(
    name="cross_view_sampson_sift",
    unit="px",
    higher_is_better=False,
    description="cross-view Sampson error: how far matches between cameras lie from one geometry",
    needs=frozenset({"views"}),
    per_frame=cross_view_errors,
    describe_features=describe_sift,
)
CROSS_VIEW_GIVEN_CAMERA_SIFT = CaseMetric(
    name="cross_view_given_camera_sift",
    unit="px",
    higher_is_better=False,
    description="how far matches between cameras lie from the geometry of the given cameras",
    needs=frozenset({"views", "camera"}),
    per_frame=given_camera_view_errors,
    describe_features=describe_sift,
)
CROSS_VIEW_AGREEMENT_SIFT = CaseMetric(
    name="cross_view_agreement_sift",
    higher_is_better=True,
    description="matches between cameras that fit the true geometry, as a share of the true views'",
    needs=frozenset({"views", "truth"}),
    compute=view_agreement,
    describe_features=describe_sift,
)
