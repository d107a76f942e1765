"""Cameras of one world agree; of shifted moments, other cameras or other worlds they do not."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from nemo_cosmos.errors import ConfigError, VideoError
from nemo_cosmos.evaluation import choose_metrics, evaluate_cases
from nemo_cosmos.evaluation.geometry import points
from nemo_cosmos.evaluation.geometry.cross_view import (
    Rig,
    cross_view_errors,
    given_camera_view_errors,
    view_agreement,
)
from nemo_cosmos.evaluation.geometry.kept import LastResults
from nemo_cosmos.evaluation.geometry.points import Keypoints, find_keypoints, match
from nemo_cosmos.evaluation.metric import Case, View


def without_cameras(case: Case) -> Case:
    views = {name: replace(view, recorded={}) for name, view in case.views.items()}
    return replace(case, recorded={}, views=views)


def changed_view(case: Case, name: str, frames_THWC: np.ndarray) -> Case:
    view = replace(case.views[name], generated_THWC=frames_THWC)
    return replace(case, views={**case.views, name: view})


def two(case: Case) -> Case:
    return replace(case, views={"right": case.views["right"]})


def test_views_that_see_the_same_are_found_by_their_cameras(rig):
    assert Rig(rig).overlapping() == [("main", "right"), ("main", "wide"), ("right", "wide")]


def test_views_that_see_the_same_are_found_by_their_pictures(rig):
    pairs = Rig(without_cameras(rig)).overlapping()
    assert ("main", "right") in pairs
    assert not any("back" in pair for pair in pairs)


def test_one_rigid_world_has_a_small_error(rig):
    assert cross_view_errors(rig).max() < 1.5
    assert given_camera_view_errors(rig).max() < 1.5
    assert view_agreement(rig) == 1.0
    assert cross_view_errors(without_cameras(two(rig))).max() < 1.5


def test_the_error_is_that_of_opencvs_matrix(rig):
    """CSE once more with OpenCV alone: its points, its matrix and its Sampson distance."""
    case = without_cameras(two(rig))
    sift, matcher = cv2.SIFT.create(nfeatures=2048), cv2.BFMatcher(cv2.NORM_L2)
    scale = np.hypot(960, 540) / np.hypot(*case.generated_THWC.shape[1:3])
    pairs, frame_of = [], []
    for frame in range(len(case.generated_THWC)):
        found = [
            sift.detectAndCompute(cv2.cvtColor(view[frame], cv2.COLOR_RGB2GRAY), None)
            for view in (case.generated_THWC, case.views["right"].generated_THWC)
        ]
        best = [
            {m.queryIdx: m.trainIdx for m, n in rows if m.distance < 0.8 * n.distance}
            for rows in (
                matcher.knnMatch(found[0][1], found[1][1], k=2),
                matcher.knnMatch(found[1][1], found[0][1], k=2),
            )
        ]
        for here, there in sorted(best[0].items()):
            if best[1].get(there) == here:
                places = [found[0][0][here].pt, found[1][0][there].pt]
                pairs.append((np.array(places) + 0.5) * scale)
                frame_of.append(frame)
    both = np.array(pairs)
    cv2.setRNGSeed(0)
    matrix, _ = cv2.findFundamentalMat(both[:, 0], both[:, 1], cv2.FM_RANSAC, 1.0, 0.999)
    errors = np.array(
        [np.sqrt(cv2.sampsonDistance(np.r_[a, 1], np.r_[b, 1], matrix)) for a, b in both]
    )
    medians = [np.median(errors[np.array(frame_of) == frame]) for frame in range(3)]
    np.testing.assert_allclose(cross_view_errors(case), medians, rtol=1e-4)


def test_a_view_of_other_moments_or_another_world_disagrees(rig):
    right = rig.views["right"].generated_THWC
    tilted = np.stack(
        [
            cv2.warpAffine(
                frame,
                cv2.getRotationMatrix2D((128, 72), 4.0 * number, 1.0),
                (256, 144),
                borderMode=cv2.BORDER_REFLECT,
            )
            for number, frame in enumerate(right)
        ]
    )
    calm = two(rig)
    for case in (calm, without_cameras(calm)):
        wrong = changed_view(case, "right", tilted)
        assert cross_view_errors(wrong).mean() > 2 * cross_view_errors(case).mean()
        assert view_agreement(wrong) < 0.7
    other = changed_view(calm, "right", rig.views["back"].generated_THWC)
    assert view_agreement(other) < 0.05
    with pytest.raises(VideoError, match="enough points in common"):
        cross_view_errors(changed_view(calm, "right", np.full_like(right, 90)))


def test_exchanged_cameras_are_far(rig):
    """The error under given cameras sees a rig that was told wrongly; a fitted one cannot."""
    right, main = rig.views["right"].recorded, rig.recorded
    wrong = replace(two(rig), recorded=right)
    wrong = replace(wrong, views={"right": replace(rig.views["right"], recorded=main)})
    assert given_camera_view_errors(wrong).mean() > 10 * given_camera_view_errors(two(rig)).mean()


def test_cameras_of_different_sizes_are_compared(rig):
    large = np.stack([cv2.resize(f, (384, 216)) for f in rig.views["right"].generated_THWC])
    view = replace(rig.views["right"], generated_THWC=large, truth_THWC=None)
    assert given_camera_view_errors(replace(rig, views={"right": view})).max() < 1.5


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (lambda view: replace(view, generated_THWC=view.generated_THWC[:2]), "2 frames.*itself 3"),
        (lambda view: replace(view, truth_THWC=view.truth_THWC[:, :90]), "its truth"),
        (lambda view: replace(view, generated_THWC=view.generated_THWC / 255.0), "float64"),
    ],
)
def test_views_that_do_not_fit_are_refused(rig, view, message):
    case = replace(rig, views={"right": view(rig.views["right"])})
    with pytest.raises(VideoError, match=message):
        evaluate_cases([case], choose_metrics(["cross_view_sampson_sift"]))


def test_an_unknown_camera_and_a_missing_truth_are_named(rig):
    case = replace(rig, views={"right": View(rig.views["right"].generated_THWC)})
    with pytest.raises(VideoError, match=r"camera of view 'right'.*NAME\.right\.camera\.npz"):
        given_camera_view_errors(case)
    with pytest.raises(VideoError, match="'right' of 'rig' has no true video"):
        view_agreement(case)
    with pytest.raises(ConfigError, match=r"NAME\.CAMERA\.mp4"):
        evaluate_cases([replace(rig, views={})], choose_metrics(["cross_view_sampson_sift"]))


def test_a_mutual_match_is_best_both_ways():
    first = Keypoints(np.array([[1.0, 1], [2, 2], [3, 3]]), 100 * np.eye(3, 4, dtype=np.uint8))
    rows = np.array([[100, 0, 0, 10], [0, 0, 0, 250], [90, 10, 0, 10]], np.uint8)
    second = Keypoints(np.array([[5.0, 5], [6, 6], [7, 7]]), rows)
    assert len(match(first, Keypoints(np.zeros((0, 2)), None))[0]) == 0
    one_way = match(second, first)[0].tolist()
    assert [5.0, 5.0] in one_way and [7.0, 7.0] in one_way
    assert [7.0, 7.0] not in match(second, first, is_mutual=True)[0].tolist()


def test_points_are_found_once_and_kept_for_few_frames(monkeypatch):
    monkeypatch.setattr(points, "_kept", LastResults(most=2))
    frames = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), np.uint8)
    first = find_keypoints(frames)
    assert len(points._kept) == 2
    again = find_keypoints(frames[1:])
    assert again[0] is first[1] and again[1] is first[2]
    sift = cv2.SIFT.create(nfeatures=points.MAX_POINTS)
    for frame, found in zip(frames, first, strict=True):
        places, described = sift.detectAndCompute(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), None)
        np.testing.assert_array_equal(found.descriptors_ND, described)
        np.testing.assert_allclose(found.points_N2, [np.add(p.pt, 0.5) for p in places])
