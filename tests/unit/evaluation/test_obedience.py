"""Sensitivity is large for a model that obeys, and zero for one that ignores what it is told."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cosmos.errors import InputError
from nemo_cosmos.evaluation.cases import CaseScores
from nemo_cosmos.evaluation.metric import MeasuredMetric
from nemo_cosmos.evaluation.obedience import dose_response, obedience, partners
from nemo_cosmos.evaluation.pair.copying import motion_margin
from nemo_cosmos.evaluation.pair.motion import motion_amount
from nemo_cosmos.evaluation.registry import choose_metrics
from nemo_cosmos.evaluation.statistics import mean_score

FOLLOWING, PSNR, STILL = choose_metrics(["motion_following", "psnr", "psnr_repeat_first"])
LATENT = MeasuredMetric(name="latent_l2", description="", higher_is_better=False)


def clips(**numbers: list[float]) -> dict[str, CaseScores]:
    """Scores of episodes e0, e1, ... with these numbers of each metric."""
    count = len(next(iter(numbers.values())))
    return {f"e{n}": CaseScores({m: v[n] for m, v in numbers.items()}) for n in range(count)}


def test_a_model_that_obeys_and_one_that_does_not():
    own = clips(motion_following=[0.8, 0.7, 0.9, 0.6], latent_l2=[0.1, 0.2, 0.1, 0.2])
    other = clips(motion_following=[0.1, 0.0, 0.2, 0.1], latent_l2=[0.4, 0.5, 0.4, 0.6])
    metrics = [FOLLOWING, LATENT]
    numbers, made = obedience({"own": own, "other": other}, metrics, "action")
    sensitivity = mean_score([numbers[name]["action_sensitivity"] for name in numbers])
    assert sensitivity.value == pytest.approx(0.65) and sensitivity.is_above_zero
    assert numbers["e0"]["action_sensitivity_latent_l2"] == pytest.approx(0.3)  # lower is better
    assert numbers["e0"]["motion_following.other"] == 0.1
    assert {metric.name for metric in made} == set(numbers["e0"])
    ignored, _ = obedience({"own": own, "other": own}, metrics, "action")
    assert not mean_score([ignored[e]["action_sensitivity"] for e in ignored]).excludes_zero


def test_a_baseline_is_not_compared_and_incomplete_episodes_are_left_out():
    own = clips(psnr=[20.0, 21.0], psnr_repeat_first=[19.0, 19.0])
    other = {"e0": own["e0"]}
    numbers, made = obedience({"own": own, "other": other}, [PSNR, STILL], "action")
    assert list(numbers) == ["e0"] and numbers["e0"]["action_sensitivity_psnr"] == 0
    assert "action_sensitivity_psnr_repeat_first" not in {metric.name for metric in made}


def test_partners_are_others_each_once_and_repeatable():
    for num in (2, 3, 8, 101):
        found = partners(num)
        assert sorted(found) == list(range(num)) and (found != np.arange(num)).all()
        assert (found == partners(num)).all()
    with pytest.raises(InputError, match="at least two"):
        partners(1)


def test_dose_response():
    assert dose_response({"x0": 0.1, "x0.5": 0.2, "own": 0.3, "x1.5": 0.4}) == pytest.approx(1)
    assert dose_response({"x0": 0.4, "x0.5": 0.3, "own": 0.2, "x1.5": 0.1}) == pytest.approx(-1)
    assert dose_response({"x0": 0.2, "x0.5": 0.2, "own": 0.2, "x1.5": 0.2}) == 0


def test_a_copy_of_the_first_frame_is_found_out(moving_square_THWC):
    still = np.broadcast_to(moving_square_THWC[:1], moving_square_THWC.shape).copy()
    assert motion_margin(still, moving_square_THWC) < -100
    assert motion_margin(moving_square_THWC, moving_square_THWC) > 100
    assert motion_amount(still) == 0 < motion_amount(moving_square_THWC)
    assert motion_amount(still[:1]) == 0
