"""The Frechet distance against scipy's matrix root and against Gaussians that are known."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError, InputError, NumericsError
from nemo_cosmos.evaluation import Case, evaluate_cases
from nemo_cosmos.evaluation.sets.frechet import (
    FRECHET_EFFICIENTNET_LITE0,
    frame_features,
    frechet_distance,
)


def rows(seed: int, num_rows: int = 60, num_features: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(num_features, num_features))
    return rng.normal(size=(num_rows, num_features)) @ mixing + rng.normal(size=num_features)


def test_it_equals_the_formula_with_a_general_matrix_root():
    linalg = pytest.importorskip("scipy.linalg")
    first, second = rows(0), rows(1)
    covariances = [np.cov(x, rowvar=False) for x in (first, second)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    difference = first.mean(axis=0) - second.mean(axis=0)
    expected = difference @ difference + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-9)


def test_gaussians_that_are_known():
    # In one dimension it is (m1 - m2)^2 + (s1 - s2)^2; these rows have exactly these moments.
    unit = np.array([[-1.0], [0.0], [1.0]])
    assert frechet_distance(2 * unit + 5, 3 * unit + 1) == pytest.approx(4**2 + 1**2)
    both = np.hstack([rows(3, num_features=2), rows(4, num_features=3)])
    assert frechet_distance(both + 2.0, both) == pytest.approx(2.0**2 * 5)


def test_the_same_set_has_no_distance_also_where_the_covariance_is_singular():
    few = rows(0, num_rows=5)
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6 * few.var())


def test_damaged_features_are_an_error():
    broken = rows(0)
    broken[3, 3] = np.nan
    with pytest.raises(NumericsError, match="NaN"):
        frechet_distance(broken, rows(1))


def test_a_set_that_is_too_small_says_how_many_videos_are_needed(monkeypatch, moving_square_THWC):
    from dataclasses import replace

    metric = replace(
        FRECHET_EFFICIENTNET_LITE0, extract=lambda frames: np.zeros((len(frames), 4), np.float32)
    )
    case = Case("a", moving_square_THWC, moving_square_THWC)
    with pytest.raises(InputError, match=r"at least 1281 rows.*give 25.*at least 52 videos"):
        evaluate_cases([case], [metric])


def test_a_video_gives_a_row_for_each_frame(moving_square_THWC):
    try:
        asset_path("efficientnet_lite0")
    except AssetError as error:
        pytest.skip(f"the network is unavailable: {error}")
    assert frame_features(moving_square_THWC[:3]).shape == (3, 1280)
