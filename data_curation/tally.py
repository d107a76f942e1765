"""What a run has counted so far, and from that how long it will still take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_curation.journal import SourceResult
from data_curation.stages.base import Rejection


@dataclass
class StageTally:
    """Counts of one stage.

    Attributes:
        done: clips that have entered it and come out, one way or the other.
        passed: of these, clips that it let through.
        rejected: the others, by reason.
        work_s: seconds of workers that this run has spent in it.
        worked: clips on which they were spent; others were done by an earlier run.
        expected: clips that will enter a stage that sees all of them; 0 before that is known.
    """

    done: int = 0
    passed: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    work_s: float = 0.0
    worked: int = 0
    expected: int = 0

    @property
    def per_s(self) -> float | None:
        """Clips per second of one worker; None before there is a measurement."""
        return self.worked / self.work_s if self.worked and self.work_s > 0 else None


class Tally:
    """Counts of a whole run.

    Args:
        num_sources: how many sources there are.
        stages: names of the stages, in order.
        clock: tells the time in seconds, for tests.
    """

    def __init__(
        self,
        num_sources: int,
        stages: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.num_sources = num_sources
        self.num_done = 0
        self.stages = {name: StageTally() for name in stages}
        self._clock = clock
        self._started_s = clock()
        self._num_worked = 0
        self._video_s = 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return max(self._clock() - self._started_s, 1e-9)

    @property
    def video_s_per_s(self) -> float:
        """Seconds of source video worked on in each second of this run."""
        return self._video_s / self.elapsed_s

    def source_done(self, result: SourceResult) -> None:
        """Count one finished source."""
        self.num_done += 1
        self._num_worked += not result.reused
        self._video_s += 0.0 if result.reused else result.duration_s
        for name, (num_entered, num_passed) in result.counts.items():
            stage = self.stages[name]
            stage.done += num_entered
            stage.passed += num_passed
            if not result.reused:
                stage.worked += num_entered
                stage.work_s += result.stage_s.get(name, 0.0)
        self._count(result.rejections)

    def clips_done(self, name: str, count: int, work_s: float) -> None:
        """Count clips of a stage that sees all of them; seconds are those since its start."""
        stage = self.stages[name]
        stage.done = stage.worked = stage.done + count
        stage.work_s = work_s

    def dataset_done(
        self, counts: Mapping[str, tuple[int, int]], rejections: Sequence[Rejection]
    ) -> None:
        """Take the final counts, those of the stages that see all clips included."""
        for name, (num_entered, num_passed) in counts.items():
            self.stages[name].done, self.stages[name].passed = num_entered, num_passed
            self.stages[name].rejected.clear()
        self._count(rejections)

    def left_s(self, name: str = "") -> float | None:
        """Seconds until all sources have passed one stage, or all stages that see single clips.

        From the mean cost of the sources so far and the number of workers that were busy.

        Returns:
            None where nothing was measured yet.
        """
        stage = self.stages[name] if name else None
        if stage is not None and stage.expected:
            return (stage.expected - stage.done) / stage.per_s if stage.per_s else None
        if stage is not None and not stage.done:
            return None
        if not self._num_worked:
            return 0.0 if self.num_done == self.num_sources else None
        share = 1.0
        if stage is not None:
            # An estimate of all that is left, cut in the proportion of what was spent so far.
            total_s = sum(each.work_s for each in self.stages.values() if not each.expected)
            share = stage.work_s / max(total_s, 1e-9)
        remaining = self.num_sources - self.num_done
        return share * remaining * self.elapsed_s / self._num_worked

    def to_json(self) -> dict[str, Any]:
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
