"""What a run has counted so far, and from that how long it will still take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from data_curation.clip import Clip, Rejection
from data_curation.journal import SourceResult


@dataclass
class StageCost:
    """What this run worked on in a stage, and what that cost.

    Attributes:
        clips: clips that entered, or sources before they are split.
        video_s: their length.
        wall_s: seconds of workers.
        core_s: seconds of cores.
    """

    clips: int = 0
    video_s: float = 0.0
    wall_s: float = 0.0
    core_s: float = 0.0

    def add(self, clips: int, video_s: float, wall_s: float, core_s: float) -> None:
        """Count some more."""
        self.clips += clips
        self.video_s += video_s
        self.wall_s += wall_s
        self.core_s += core_s

    def to_json(self) -> dict[str, float]:
        """The costs, with ``clips_per_s`` of one worker and ``video_s_per_core_s`` of one core."""
        rates = {
            "clips_per_s": self.clips / max(self.wall_s, 1e-9),
            "video_s_per_core_s": self.video_s / max(self.core_s, 1e-9),
        }
        return {name: round(value, 6) for name, value in (asdict(self) | rates).items()}


@dataclass
class StageTally:
    """Counts of one stage.

    Attributes:
        done: clips that have entered it and come out, one way or the other.
        passed: those of them that it let through.
        rejected: the others, by reason.
        cost: resources that this run spent in it; an earlier run's work costs nothing.
        expected: clips that will enter a stage that sees all of them; 0 before that is known.
    """

    done: int = 0
    passed: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    cost: StageCost = field(default_factory=StageCost)
    expected: int = 0

    @property
    def per_s(self) -> float | None:
        """Clips per second of one worker; None before there is a measurement."""
        return self.cost.clips / self.cost.wall_s if self.cost.clips and self.cost.wall_s else None


class Tally:
    """Counts of a whole run.

    Args:
        num_sources: number of sources.
        stages: names of the stages, in order.
        clock: source of the time in seconds, for tests.
    """

    def __init__(
        self,
        num_sources: int,
        stages: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.num_sources = num_sources
        self.num_done = 0
        #: Of these, sources and clips that this run worked on, and their length.
        self.num_worked = self.num_clips_worked = 0
        self.video_s = 0.0
        self.stages = {name: StageTally() for name in stages}
        self._more_costs: dict[str, StageCost] = {}
        self._clock = clock
        self._started_s = clock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return max(self._clock() - self._started_s, 1e-9)

    @property
    def video_s_per_s(self) -> float:
        """Seconds of source video worked on in each second of this run."""
        return self.video_s / self.elapsed_s

    @property
    def costs(self) -> dict[str, StageCost]:
        """What was spent on each stage that ran, and on the steps after them."""
        spent = {name: stage.cost for name, stage in self.stages.items() if stage.cost.wall_s}
        return {**spent, **self._more_costs}

    def source_done(self, result: SourceResult) -> None:
        """Count one finished source."""
        self.num_done += 1
        if not result.reused:
            self.num_worked += 1
            self.num_clips_worked += len(result.clips)
            self.video_s += result.duration_s
        for name, (num_entered, num_passed) in result.counts.items():
            stage = self.stages[name]
            stage.done += num_entered
            stage.passed += num_passed
            if not result.reused:
                stage.cost.add(
                    num_entered,
                    result.stage_video_s.get(name, 0.0),
                    result.stage_s.get(name, 0.0),
                    result.stage_cpu_s.get(name, 0.0),
                )
        self._count(result.rejections)

    def step_begins(self, name: str, num_clips: int) -> None:
        """Expect so many clips in a step that sees all of them."""
        if name in self.stages:
            self.stages[name].expected = num_clips

    def clips_done(self, name: str, count: int, wall_s: float) -> None:
        """Count clips of a stage that sees all of them; seconds are those since its start."""
        if name in self.stages:
            stage = self.stages[name]
            stage.done = stage.cost.clips = stage.done + count
            stage.cost.wall_s = wall_s

    def step_done(self, name: str, clips: Sequence[Clip], wall_s: float, core_s: float) -> None:
        """Take the cost of a finished step that saw all clips: a stage, or another."""
        cost = StageCost(len(clips), sum(clip.length_s for clip in clips), wall_s, core_s)
        if name in self.stages:
            self.stages[name].cost = cost
        else:
            self._more_costs[name] = cost

    def dataset_done(
        self, counts: Mapping[str, tuple[int, int]], rejections: Sequence[Rejection]
    ) -> None:
        """Take the final counts, including those of the stages that see all clips."""
        for name, (num_entered, num_passed) in counts.items():
            self.stages[name].done, self.stages[name].passed = num_entered, num_passed
            self.stages[name].rejected.clear()
        self._count(rejections)

    def left_s(self, name: str = "") -> float | None:
        """Seconds until all sources have passed one stage, or all stages that see single clips.

        The estimate takes the mean cost of the sources so far at the number of workers that were
        busy.

        Returns:
            None where nothing was measured yet.
        """
        stage = self.stages[name] if name else None
        if stage is not None and stage.expected:
            return (stage.expected - stage.done) / stage.per_s if stage.per_s else None
        if stage is not None and not stage.done:
            return None
        if not self.num_worked:
            return 0.0 if self.num_done == self.num_sources else None
        share = 1.0
        if stage is not None:
            # An estimate of all that is left, cut in the proportion of what was spent so far.
            total_s = sum(each.cost.wall_s for each in self.stages.values() if not each.expected)
            share = stage.cost.wall_s / max(total_s, 1e-9)
        remaining = self.num_sources - self.num_done
        return share * remaining * self.elapsed_s / self.num_worked

    def to_json(self) -> dict[str, object]:
        """All counts, rates and times, as machines read them."""
        return {
            "event": "progress",
            "elapsed_s": round(self.elapsed_s, 3),
            "sources": self.num_sources,
            "sources_done": self.num_done,
            "video_s_per_s": round(self.video_s_per_s, 3),
            "left_s": _rounded(self.left_s()),
            "stages": {
                name: {
                    "done": stage.done,
                    "passed": stage.passed,
                    "rejected": dict(sorted(stage.rejected.items())),
                    "clips_per_s": _rounded(stage.per_s),
                    "left_s": _rounded(self.left_s(name)),
                }
                for name, stage in self.stages.items()
            },
        }

    def _count(self, rejections: Sequence[Rejection]) -> None:
        for rejection in rejections:
            self.stages[rejection.stage].rejected[rejection.reason] += 1


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
