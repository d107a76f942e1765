"""Motion metrics tell the right motion from a still, an opposite and a blurred one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from nemo_cosmos.errors import InputError
from nemo_cosmos.evaluation import (
    Case,
    evaluate_cases,
    evaluate_pair,
    flow_similarity,
    motion_following,
)
from nemo_cosmos.evaluation.pair import motion


def still(frames: np.ndarray) -> np.ndarray:
    return np.repeat(frames[:1], len(frames), axis=0)


@pytest.mark.parametrize("metric", [motion_following, flow_similarity])
def test_the_same_a_still_and_the_opposite_motion(metric, moving_square_THWC):
    truth = moving_square_THWC
    assert metric(truth, truth) == pytest.approx(1)
    assert metric(still(truth), truth) == 0
    assert metric(truth[::-1], truth) < 0
    assert metric(still(truth), still(truth)) == 1
    assert metric(truth, still(truth)) == 0


def test_blur_and_noise_hardly_matter(moving_square_THWC):
    truth = moving_square_THWC
    rng = np.random.default_rng(0)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in truth])
    noisy = np.clip(blurred + rng.normal(0, 3, truth.shape), 0, 255).astype(np.uint8)
    assert motion_following(noisy, truth) > 0.9


def test_half_the_speed_is_the_same_motion_and_a_crawl_is_not(moving_square_THWC):
    truth = moving_square_THWC[::2]
    assert motion_following(moving_square_THWC[: len(truth)], truth) > 0.9
    crawl = moving_square_THWC[np.arange(len(truth)) // 6]
    assert motion_following(crawl, truth) < 0.6


def test_motion_to_the_side_is_unrelated(moving_square_THWC):
    truth = moving_square_THWC[:12, 8:48, 4:44]
    turned = np.ascontiguousarray(truth.transpose(0, 2, 1, 3))
    assert abs(motion_following(turned, truth)) < 0.5


def test_a_video_of_one_frame_has_no_number(moving_square_THWC):
    one, two = moving_square_THWC[:1], moving_square_THWC[:2]
    assert evaluate_pair(one, one).keys() == {"psnr", "ssim"}
    found = evaluate_cases([Case("one", one, one), Case("two", two, two)])
    assert found.scores["motion_following"].num == 1
    assert found.scores["psnr"].num == 2
    with pytest.raises(InputError, match="2 frames or more"):
        evaluate_cases([Case("one", one, one)], ["motion_following"])


def test_two_metrics_of_a_video_compute_its_flow_once(moving_square_THWC, monkeypatch):
    computed: list[int] = []
    compute = motion._compute_flow

    def counting(frames_THWC):
        computed.append(len(frames_THWC))
        return compute(frames_THWC)

    monkeypatch.setattr(motion, "_compute_flow", counting)
    truth, generated = moving_square_THWC[:5], moving_square_THWC[1:6].copy()
    first = motion_following(generated, truth), flow_similarity(generated, truth)
    assert len(computed) == 2
    generated[2:] = 0  # another video in the same memory
    assert flow_similarity(generated, truth) != first[1]
    assert len(computed) == 3
