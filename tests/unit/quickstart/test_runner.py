"""The runner re-uses what is done and runs what changed, and all that follows."""

import pytest

from nemo_cosmos.quickstart.runner import Step, run_steps


class Road:
    """Three steps that count how often each was run."""

    def __init__(self):
        self.runs = []

    def steps(self, **definitions):
        return [
            Step(name, name.title(), {"value": definitions.get(name, 0)}, self.runner(name))
            for name in ("first", "second", "third")
        ]

    def runner(self, name):
        def run():
            self.runs.append(name)
            return {"of": name}

        return run


def quiet(number, total, step, reused):
    pass


def test_every_step_runs_once_and_is_reused(tmp_path):
    road = Road()
    first = run_steps(tmp_path, road.steps(), quiet)
    second = run_steps(tmp_path, road.steps(), quiet)
    assert road.runs == ["first", "second", "third"]
    assert [record.figures["of"] for record in second] == ["first", "second", "third"]
    assert first == second


def test_changed_step_and_all_after_it_run_again(tmp_path):
    road = Road()
    run_steps(tmp_path, road.steps(), quiet)
    run_steps(tmp_path, road.steps(second=1), quiet)
    assert road.runs == ["first", "second", "third", "second", "third"]


def test_interrupted_step_runs_again(tmp_path):
    road = Road()
    steps = road.steps()

    def fail():
        raise KeyboardInterrupt

    broken = [steps[0], Step("second", "Second", steps[1].definition, fail), steps[2]]
    with pytest.raises(KeyboardInterrupt):
        run_steps(tmp_path, broken, quiet)
    run_steps(tmp_path, steps, quiet)
    assert road.runs == ["first", "second", "third"]


def test_unreadable_record_counts_as_not_done(tmp_path):
    road = Road()
    run_steps(tmp_path, road.steps(), quiet)
    (tmp_path / "steps" / "third.json").write_text("{")
    run_steps(tmp_path, road.steps(), quiet)
    assert road.runs == ["first", "second", "third", "third"]


def test_announces_what_is_reused(tmp_path):
    heard = []
    road = Road()

    def announce(number, total, step, reused):
        heard.append((number, total, step.name, reused))

    run_steps(tmp_path, road.steps(), announce)
    run_steps(tmp_path, road.steps(third=1), announce)
    assert heard[:3] == [(1, 3, "first", False), (2, 3, "second", False), (3, 3, "third", False)]
    assert heard[3:] == [(1, 3, "first", True), (2, 3, "second", True), (3, 3, "third", False)]
