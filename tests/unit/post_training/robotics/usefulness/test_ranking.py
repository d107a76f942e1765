"""The ranking: right where the world is right, worthless where it is worthless, and resumable."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from nemo_cosmos.errors import ConfigError
from post_training.robotics.usefulness.policies import POLICIES
from post_training.robotics.usefulness.ranking import (
    GRADES_M,
    SIMULATOR,
    WORLD,
    Ranking,
    RankingTrial,
    rank_policies,
    success,
)
from post_training.robotics.usefulness.records import Journal, make_record, write_record

NAMES = ("expert", "cautious", "timid", "biased", "confused", "mirrored", "random", "idle")
QUICK = RankingTrial(2, policies=[policy for policy in POLICIES if policy.name in NAMES])


class Deaf:
    """A world model that shows a fine picture and ignores what it is told."""

    def __init__(self, table):
        self.form = table.form

    def begin(self, scene):
        from post_training.robotics.usefulness.environment import Moment

        return Moment(scene.frame_HWC)

    def step(self, moments, actions_NKA, seed=0, every_frame=True):
        return list(moments), np.stack([moment.frame_HWC[None] for moment in moments])


@pytest.fixture(scope="module")
def ranking(table, eye) -> Ranking:
    environments = {SIMULATOR: table, WORLD: table}
    return rank_policies(environments, table, eye, QUICK, Journal(None, None))


def test_a_perfect_world_ranks_as_the_simulator(ranking: Ranking) -> None:
    figures = ranking.figures()
    assert figures["rank_correlation"].score.value == pytest.approx(1)
    assert figures["success_error"].score.value == 0
    assert figures["success_bias"].score.value == 0


def test_policies_are_of_different_competence(ranking: Ranking) -> None:
    rates = {row["policy"]: row[SIMULATOR] for row in ranking.rows()}
    assert rates["expert"] > 0.7
    assert rates["expert"] > rates["timid"]
    assert max(rates["idle"], rates["confused"], rates["mirrored"]) < 0.5
    assert len(set(rates.values())) >= 4, rates
    assert [row[SIMULATOR] for row in ranking.rows()] == sorted(rates.values(), reverse=True)


def test_a_deaf_world_ranks_nothing(table, eye, ranking: Ranking) -> None:
    found = rank_policies({WORLD: Deaf(table)}, table, eye, QUICK, Journal(None, None))
    both = Ranking(QUICK, {SIMULATOR: ranking.ends_m[SIMULATOR], WORLD: found.ends_m[WORLD]})
    assert both.figures()["rank_correlation"].score.value == 0
    assert both.figures()["success_error"].score.value > 0.1


def test_a_run_that_was_stopped_goes_on(table, eye, tmp_path) -> None:
    environments = {SIMULATOR: Deaf(table), WORLD: Deaf(table)}
    journal = Journal(tmp_path, ["a world"])
    shown = []

    def stop(environment, policy, frames):
        shown.append((environment, policy))
        if policy == "biased":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rank_policies(environments, table, eye, QUICK, journal, show=stop)
    finished = [(SIMULATOR, name) for name in NAMES[:3]]
    assert shown[:-1] == finished
    shown.clear()
    counts = []
    found = rank_policies(
        environments,
        table,
        eye,
        QUICK,
        journal,
        show=lambda environment, policy, frames: shown.append((environment, policy)),
        progress=lambda done, total: counts.append((done, total)),
    )
    every = [(environment, name) for environment in environments for name in NAMES]
    assert shown == [each for each in every if each not in finished]
    assert counts[-1] == (4 * len(NAMES), 4 * len(NAMES))
    shown.clear()
    other = Journal(tmp_path, ["another world"])
    again = rank_policies(
        environments, table, eye, QUICK, other, show=lambda *what: shown.append(what)
    )
    assert len(shown) == len(every), "another world's episodes are not taken for this one's"
    np.testing.assert_array_equal(again.ends_m[WORLD], found.ends_m[WORLD])


def test_success_is_graded_and_an_unseen_gripper_fails() -> None:
    ends_m = np.array([0.0, 0.04, 0.1, 0.5, np.inf])
    np.testing.assert_allclose(success(ends_m), [1, 0.75, 0.25, 0, 0])
    assert len(GRADES_M) == 4


def test_the_interval_is_of_the_scenes() -> None:
    rng = np.random.default_rng(0)
    true_PN = rng.uniform(0, 0.3, (13, 20))
    noisy_PN = true_PN + rng.normal(0, 0.05, true_PN.shape)
    ranking = Ranking(RankingTrial(num_episodes=20), {SIMULATOR: true_PN, WORLD: noisy_PN})
    score = ranking.figures()["rank_correlation"].score
    assert score.num == 20
    assert -1 <= score.low < score.value < score.high <= 1
    ours, true = (ranking.success_PN(name).mean(1) for name in (WORLD, SIMULATOR))
    assert score.value == pytest.approx(spearmanr(ours, true).statistic)


def test_refuses_too_few_policies_or_episodes() -> None:
    with pytest.raises(ConfigError, match="at least 8"):
        RankingTrial(policies=POLICIES[:7])
    with pytest.raises(ConfigError, match="different names"):
        RankingTrial(policies=POLICIES[:1] * 9)
    with pytest.raises(ConfigError, match="1 episode leaves no interval"):
        RankingTrial(num_episodes=1)


def test_the_record_holds_what_a_repetition_needs(ranking: Ranking, tmp_path) -> None:
    inputs = {"model": {"weights_sha256": "0"}, **ranking.trial.describe()}
    write_record(make_record("ranking", ranking.figures(), ranking.rows(), inputs, 1.0), tmp_path)
    record = json.loads((tmp_path / "ranking.json").read_text("utf-8"))
    assert record["inputs"]["seed"] == QUICK.seed
    assert record["inputs"]["model"]["weights_sha256"] == "0"
    assert record["versions"]["torch"]
    assert record["scores"]["rank_correlation"]["num"] == 2
    assert len(record["rows"]) == len(NAMES)
    table = (tmp_path / "ranking.md").read_text("utf-8")
    assert "| expert | 1.000 | 1.000 |" in table
