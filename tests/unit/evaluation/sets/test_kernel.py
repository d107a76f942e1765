"""The kernel distance against its definition in loops, and that small sets do not bias it."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.errors import InputError
from nemo_cosmos.evaluation.sets.frechet import frechet_distance
from nemo_cosmos.evaluation.sets.kernel import kernel_distance


def test_it_equals_the_definition():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(7, 5)), rng.normal(size=(7, 5)) + 0.3

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (float(a @ b) / 5 + 1) ** 3

    total = 0.0
    for i in range(7):
        for j in range(7):
            if i != j:
                total += kernel(first[i], first[j]) + kernel(second[i], second[j])
                total -= kernel(first[i], second[j]) + kernel(second[i], first[j])
    assert kernel_distance(first, second) == pytest.approx(total / (7 * 6), rel=1e-9)


def test_small_sets_do_not_bias_it_as_they_bias_frechets():
    # Draws of one Gaussian: the true distance is 0 at every size.
    rng = np.random.default_rng(1)
    of_ten = [(rng.normal(size=(10, 40)), rng.normal(size=(10, 40))) for _ in range(200)]
    kernel = np.array([kernel_distance(*pair) for pair in of_ten])
    assert abs(kernel.mean()) < 4 * kernel.std() / np.sqrt(len(kernel))
    assert min(frechet_distance(*pair) for pair in of_ten) > 10


def test_rows_of_the_same_videos_do_not_bias_it_either():
    # A reconstruction is no draw of its own: row i of both sides is nearly the same.
    rng = np.random.default_rng(2)
    estimates = []
    for _ in range(200):
        truth = rng.normal(size=(8, 40))
        estimates.append(kernel_distance(truth + 1e-3 * rng.normal(size=(8, 40)), truth))
    assert abs(np.mean(estimates)) < 1e-3


def test_a_video_that_a_resampled_set_holds_twice_changes_nothing():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    twice = np.tile(np.arange(6), 2)
    assert kernel_distance(first[twice], second[twice]) == pytest.approx(
        kernel_distance(first, second)
    )
    alone = np.zeros(3, int)
    assert kernel_distance(first[alone], second[alone]) > 0


@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 4)])
def test_sets_that_do_not_fit_are_an_error(first, second):
    with pytest.raises(InputError, match="two or more rows"):
        kernel_distance(np.zeros((first, 4)), np.zeros((second, 4)))
