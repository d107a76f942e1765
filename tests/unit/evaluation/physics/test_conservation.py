"""Energy and momentum on films of closed formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nemo_cosmos.evaluation.physics.conservation import (
    ENERGY_DRIFT,
    ENERGY_ERROR,
    MOMENTUM_ERROR,
)


def measure(metric, case):
    assert metric.applies is None or metric.applies(case)
    return metric.measure(case)[0]


def variants(film):
    """What may go wrong with a motion, by its name."""
    places, length = film.position_TN2, len(film.position_TN2)
    start = places[:1]
    lost, jumps = places.copy(), places.copy()
    lost[length // 2 :] = np.nan
    jumps[length // 2 :] += np.array([0.5, 0])
    steady = start + (places[1:2] - start) * np.arange(length)[:, None, None]
    return {
        "truth": film,
        "frozen": film.moved(np.repeat(start, length, axis=0)),
        "half speed": film.moved(places[np.arange(length) // 2] * 0.5 + 0.5 * places[
            (np.arange(length) + 1) // 2]),
        "straight on": film.moved(steady),
        "vanished": film.moved(lost),
        "teleports": film.moved(jumps),
    }  # fmt: skip


def scores(metric, film, case_of):
    return {name: measure(metric, case_of(shown, film)) for name, shown in variants(film).items()}


def test_energy_error_tells_every_fault(case_of, falling):
    found = scores(ENERGY_ERROR, falling, case_of)
    assert found["truth"] == 0
    assert 0.2 < found["half speed"] < found["frozen"] < 0.8
    assert found["straight on"] > 0.2
    assert found["vanished"] > 0.5
    assert 0.1 < found["teleports"] < found["vanished"]


def test_energy_error_of_a_noisy_truth_is_small(case_of, falling):
    noise = np.random.default_rng(0).normal(0, 6, falling.draw().shape)
    noisy = np.clip(falling.draw() + noise, 0, 255).astype(np.uint8)
    assert measure(ENERGY_ERROR, case_of(noisy, falling)) < 0.05


def test_energy_drifts_where_the_motion_is_unphysical(case_of, falling):
    found = scores(ENERGY_DRIFT, falling, case_of)
    assert found["truth"] < 0.05  # the floor: places to a tenth of a pixel
    assert found["frozen"] < 0.01  # a still video keeps its energy, as the page says
    assert found["straight on"] < found["vanished"]
    for name in ("half speed", "vanished", "teleports"):
        assert found[name] > 2 * found["truth"], name


def test_momentum_is_kept_in_a_collision(case_of, collision):
    found = scores(MOMENTUM_ERROR, collision, case_of)
    assert found["truth"] == 0
    assert 0.4 < found["half speed"] < 0.6
    assert found["frozen"] > 0.95
    assert found["vanished"] > 0.4
    through = collision.position_TN2.copy()
    through[10:, 1] = through[9, 1]  # the first turns round as if it had hit; the second stays
    assert measure(MOMENTUM_ERROR, case_of(collision.moved(through), collision)) > 0.3


def test_a_mass_counts_as_much_as_it_weighs(case_of, collision):
    """The second disc moves at half its speed: 3 of the 2 kg m/s go missing by half."""
    slow = collision.position_TN2.copy()
    slow[:, 1, 0] = 0.2 + 0.5 * (slow[:, 1, 0] - 0.2)
    error = measure(MOMENTUM_ERROR, case_of(collision.moved(slow), collision))
    expected = 0.5 * 3.0 / 2.0  # after the hit, of 2 kg m/s
    share = 9 / 18  # of the measured frames
    assert abs(error - expected * share) < 0.06


def test_they_apply_where_there_is_something_to_measure(case_of, falling, collision, rolling):
    assert not MOMENTUM_ERROR.applies(case_of(falling, falling))
    apart = collision.position_TN2.copy()
    apart[:, 0, 0] = -1.2 + 0.05 * np.arange(20)
    apart[:, 1, 0] = 0.4
    film = collision.moved(apart)
    assert not MOMENTUM_ERROR.applies(case_of(film, film))
    still = falling.moved(np.repeat(falling.position_TN2[:1], 12, axis=0))
    for metric in (ENERGY_ERROR, ENERGY_DRIFT):
        assert not metric.applies(case_of(still, still))
    braking = replace(rolling, board_m=None)
    places = braking.position_TN2.copy()
    places[:, 0, 0] = -1.3 + 2.2 * (1 - np.exp(-3 * np.arange(24) / 20)) / 3 * 3
    slows = braking.moved(places)
    assert ENERGY_ERROR.applies(case_of(slows, slows))
    assert not ENERGY_DRIFT.applies(case_of(slows, slows))
