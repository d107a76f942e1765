"""The path of a moving square is found to a fraction of a pixel."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.evaluation.tracking.matching import (
    follow,
    learn_look,
    resized,
    working_scale,
)
from nemo_cosmos.testing.squares import NUM_FRAMES, film, line


def found(
    truth_T2: np.ndarray, generated_THWC: np.ndarray, point_2: tuple[float, float] = (0, 0)
) -> np.ndarray:
    """The path in a generated video of a point beside the square's middle, in pixels."""
    truth_THWC = film(truth_T2)
    truth_T2 = np.add(truth_T2, point_2)
    scale = working_scale(truth_THWC)
    is_inside_T = np.ones(NUM_FRAMES, bool)
    look = learn_look(resized(truth_THWC), truth_T2 * scale, is_inside_T, round(8 * scale))
    path = follow(resized(generated_THWC), look, truth_T2[0] * scale, 8 * scale)
    return path.points_T2 / scale


TRUTH = line((20.0, 20.0), (2.5, 0.4))


@pytest.mark.parametrize(
    "other",
    [line((20.0, 20.0), (1.3, 1.9)), line((20.0, 20.0), (0, 0)), np.add(TRUTH, (2.25, -1.5))],
)
def test_another_path_is_found_exactly(other):
    assert np.abs(found(TRUTH, film(other, seed=1)) - other).max() < 0.35


def test_the_same_video_has_the_same_path():
    assert np.abs(found(TRUTH, film(TRUTH)) - TRUTH).max() < 0.35


def test_a_point_beside_the_object_moves_with_it():
    other = line((20.0, 20.0), (1.3, 1.9))
    above = (0, -6)  # where the background is seen
    path_T2 = found(TRUTH, film(other, seed=1), above)
    assert np.abs(path_T2 - np.add(other, above)).max() < 0.5


def test_a_vanished_object_is_not_seen():
    truth_THWC = film(TRUTH)
    scale = working_scale(truth_THWC)
    look = learn_look(resized(truth_THWC), TRUTH * scale, np.ones(NUM_FRAMES, bool), 30)
    gone = film(line((-90.0, -90.0), (0, 0)), seed=1)
    generated_THWC = np.concatenate([truth_THWC[:4], gone[4:]])
    is_seen_T = follow(resized(generated_THWC), look, TRUTH[0] * scale, 30).is_seen_T
    assert is_seen_T[:4].all() and not is_seen_T[4:].any()
