"""Overlap, support, permanence and counterfactuals on films of closed formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nemo_cosmos.errors import SampleError
from nemo_cosmos.evaluation.physics.finding import see, to_plane
from nemo_cosmos.evaluation.physics.places import (
    COUNTERFACTUAL_MARGIN,
    OBJECT_IOU,
    OBJECT_PERMANENCE,
    SUPPORT_ERROR,
)


def frozen(film):
    return film.moved(np.repeat(film.position_TN2[:1], len(film.position_TN2), axis=0))


def vanished(film, first):
    places = film.position_TN2.copy()
    places[first:] = np.nan
    return film.moved(places)


def shifted(film, x_m=0.0, z_m=0.0):
    return film.moved(film.position_TN2 + np.array([x_m, z_m]))


def measure(metric, case):
    assert metric.applies is None or metric.applies(case)
    return metric.measure(case)[0]


def test_objects_are_found_where_they_are(case_of, collision):
    scene = see(case_of(collision, collision))
    found = scene.generated
    assert found.is_found_TN.all()
    np.testing.assert_allclose(found.position_TN2, collision.position_TN2, atol=0.01)
    np.testing.assert_allclose(found.bottom_TN, 0, atol=0.5 / 20)


def test_a_place_in_the_picture_is_a_place_in_the_plane():
    projection = np.array([[1.0, 0, 0.1, 0.5], [0, 0.2, -1, 0.6], [0, 0.1, 0.05, 2.0]])
    points = np.array([[0.3, 0.7], [-1.0, 0.2]])
    seen = np.array([projection @ [x, 0, z, 1] for x, z in points])
    np.testing.assert_allclose(to_plane(seen[:, :2] / seen[:, 2:], projection), points, atol=1e-12)


def test_overlap_is_high_for_the_truth_and_falls_with_the_distance(case_of, falling):
    scores = [
        measure(OBJECT_IOU, case_of(shown, falling))
        for shown in (
            falling,
            shifted(falling, 0.05),
            shifted(falling, 0.15),
            frozen(falling),
            vanished(falling, 0),
        )
    ]
    assert scores[0] > 0.93  # the floor: edges of pixels
    assert scores == sorted(scores, reverse=True)
    assert scores[1] < 0.9 and scores[2] < 0.65
    assert scores[3] < 0.35
    assert scores[4] == 0


def test_brightness_and_noise_do_not_hide_an_object(case_of, falling):
    dim = (falling.draw() * 0.7).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 6, dim.shape)
    assert measure(OBJECT_IOU, case_of(dim, falling)) > 0.9
    noisy = np.clip(falling.draw() + noise, 0, 255).astype(np.uint8)
    assert measure(OBJECT_IOU, case_of(noisy, falling)) > 0.85


def test_overlap_of_what_is_out_of_view_is_whether_it_is(case_of, rolling):
    curve = OBJECT_IOU.measure(case_of(rolling, rolling))[1]
    hidden = np.flatnonzero(rolling.objects()["visible_fraction"][:, 0] == 0)
    assert len(hidden) and all(curve[frame] == 1 for frame in hidden)
    open_film = replace(rolling, board_m=None)
    ghost = OBJECT_IOU.measure(case_of(open_film, rolling))[1]
    assert all(ghost[frame] == 0 for frame in hidden)


@pytest.mark.parametrize(("up_m", "cm"), [(0.0, 0.0), (0.2, 20.0), (-0.1, 10.0)])
def test_floating_and_sinking_are_measured_in_cm(case_of, collision, up_m, cm):
    error = measure(SUPPORT_ERROR, case_of(shifted(collision, z_m=up_m), collision))
    assert error == pytest.approx(cm, abs=0.5)


def test_a_frozen_object_is_supported_and_a_lost_one_is_not(case_of, collision):
    assert measure(SUPPORT_ERROR, case_of(frozen(collision), collision)) == 0
    lost = measure(SUPPORT_ERROR, case_of(vanished(collision, 0), collision))
    assert lost == pytest.approx(40)  # its own height


def test_what_flies_needs_no_support(case_of, falling):
    assert not SUPPORT_ERROR.applies(case_of(falling, falling))


def test_what_a_board_hides_comes_out_again(case_of, rolling):
    times = np.arange(24)
    late = rolling.position_TN2[np.maximum(times - 4, 0)]
    scores = {
        "truth": rolling,
        "frozen": frozen(rolling),
        "vanished": vanished(rolling, 12),
        "never hidden": replace(rolling, board_m=None),
        "late": rolling.moved(late),
    }
    found = {name: measure(OBJECT_PERMANENCE, case_of(film, rolling))
             for name, film in scores.items()}  # fmt: skip
    assert found["truth"] == 1
    assert found["frozen"] == found["vanished"] == found["never hidden"] == found["late"] == 0
    slightly_late = rolling.position_TN2 - [0.1, 0]
    assert measure(OBJECT_PERMANENCE, case_of(rolling.moved(slightly_late), rolling)) > 0.5


def test_without_a_board_there_is_no_permanence_to_measure(case_of, falling, rolling):
    assert not OBJECT_PERMANENCE.applies(case_of(falling, falling))
    away = rolling.position_TN2 + np.array([0.6, 0])  # leaves the picture in the end
    film = replace(rolling.moved(away), board_m=None)
    assert not OBJECT_PERMANENCE.applies(case_of(film, film))


def test_the_outcome_of_another_push_is_told_from_the_own(case_of, collision):
    slow = collision.position_TN2.copy()
    slow[:, 0, 0] = -1.2 + 0.5 * (slow[:, 0, 0] + 1.2)
    film = replace(collision, other_TN2=slow)
    half_way = (collision.position_TN2 + slow) / 2
    margins = [
        measure(COUNTERFACTUAL_MARGIN, case_of(film.moved(places), film))
        for places in (film.position_TN2, half_way, slow)
    ]
    assert margins[0] > 0.9 and margins[2] < -0.9
    assert abs(margins[1]) < 0.05
    assert measure(COUNTERFACTUAL_MARGIN, case_of(vanished(film, 0), film)) == 0


def test_without_a_pair_there_is_no_counterfactual(case_of, collision):
    assert not COUNTERFACTUAL_MARGIN.applies(case_of(collision, collision))
    same = replace(collision, other_TN2=collision.position_TN2)
    assert not COUNTERFACTUAL_MARGIN.applies(case_of(same, same))


def test_masks_are_resized_and_another_aspect_ratio_is_refused(case_of, falling):
    case = case_of(falling, falling)
    double = case.truth_THWC.repeat(2, axis=1).repeat(2, axis=2)
    larger = replace(case, generated_THWC=double, truth_THWC=double)
    assert measure(OBJECT_IOU, larger) > 0.9
    square = case.truth_THWC[:, :, :48]
    with pytest.raises(SampleError, match="same aspect ratio"):
        measure(OBJECT_IOU, replace(case, generated_THWC=square, truth_THWC=square))


def test_a_grey_object_and_one_that_never_shows_are_refused(case_of, falling):
    case = case_of(falling, falling)
    grey = np.repeat(case.truth_THWC.mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1)
    with pytest.raises(SampleError, match="grey"):
        measure(OBJECT_IOU, replace(case, truth_THWC=grey))
    known = {**case.recorded["objects"]}
    known["mask"] = np.zeros_like(known["mask"])
    with pytest.raises(SampleError, match="never shows"):
        measure(OBJECT_IOU, replace(case, recorded={"objects": known}))
