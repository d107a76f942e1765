"""Score many videos one after the other, keep each score, and go on after a stop.

Videos come from wherever the caller has them: two folders, or a model that makes one when it is
asked. What was scored before is neither read nor made again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from nemo_cosmos.errors import GuardrailError, InputError, NemoCosmosError, NumericsError
from nemo_cosmos.evaluation.cases import CaseScores, score_or_skip
from nemo_cosmos.evaluation.metric import Case, Metric
from nemo_cosmos.evaluation.scoring import Evaluation, summarise
from nemo_cosmos.evaluation.sharing import Crew, ScoreJournal, ShareDone


@dataclass(frozen=True)
class Source:
    """A video to be scored.

    Attributes:
        about: all that decides its scores besides the metrics; anything that JSON can hold.
        read: reads or makes the video. An :class:`InputError`, :class:`NumericsError` or
            :class:`GuardrailError` of it is the reason why the video has no score.
    """

    about: object
    read: Callable[[], Case]


@dataclass(frozen=True)
class Part:
    """Videos and what is computed of each.

    Attributes:
        sources: the videos by name.
        metrics: metrics of any kind.
        optional: names of metrics that may be left out where they cannot be computed.
        first_frame: the number of the first frame that is compared.
        refused: videos that are known to have no score, and why.
    """

    sources: Mapping[str, Source]
    metrics: Sequence[Metric]
    optional: frozenset[str] = frozenset()
    first_frame: int = 0
    refused: Mapping[str, NemoCosmosError] = field(default_factory=dict)


@dataclass
class Scored:
    """What was computed of the videos of a part.

    Attributes:
        part: the part.
        results: the scores by name, in the part's order.
        refused: why a video has no score, by its name, in the part's order.
    """

    part: Part
    results: dict[str, CaseScores]
    refused: dict[str, NemoCosmosError]

    def require(self) -> None:
        """Raise the first error where no video has a score.

        Raises:
            InputError, NumericsError, GuardrailError: so it is.
        """
        if not self.results:
            raise next(iter(self.refused.values()))

    def summarise(self) -> Evaluation:
        """The numbers of all videos together.

        Raises:
            InputError: no video can be scored, or there are too few for a set metric.
        """
        self.require()
        part = self.part
        evaluation = summarise(self.results, part.metrics, part.first_frame, part.optional)
        reasons = {name: str(error) for name, error in self.refused.items()}
        return replace(evaluation, skipped=reasons)


def score_parts(
    parts: Sequence[Part],
    *,
    work: Path | None = None,
    on_case: Callable[[int, int], None] | None = None,
    crew: Crew | None = None,
) -> list[Scored]:
    """Every metric of every video of several parts.

    Args:
        parts: the videos, and what is computed of each.
        work: a folder that keeps the scores of each video, so that the same call resumes.
        on_case: called with (videos done, all videos) after each one.
        crew: the processes that make the same call and share the videos; they need ``work``.

    Returns:
        the scores of each part; a video that cannot be scored is refused with its reason.

    Raises:
        ServiceError: a judge cannot be asked.
        ShareDone: this is not the first process, and its share is scored.
    """
    states = [_State(part, work) for part in parts]
    total = sum(len(part.sources) for part in parts)
    of_others: list[_Task] = []

    def show() -> None:
        if on_case is not None:
            finished = [task for task in of_others if crew and crew.is_finished(task.name)]
            on_case(sum(s.num_done for s in states) + sum(len(t.videos) for t in finished), total)

    for task in _tasks(states):
        waiting = [name for name in task.videos if not task.state.find(name)]
        if waiting and crew is not None and not crew.take(task.name):
            of_others.append(task)
            continue
        task.state.score(waiting)
        if waiting and crew is not None:
            crew.finish(task.name, task.state.refused_of(waiting))
        show()
    if crew is not None:
        if not crew.is_first:
            raise ShareDone
        while of_others:
            _gather(of_others[0], crew, show)
            of_others.pop(0)
            show()
    return [state.scored() for state in states]


class _Task(NamedTuple):
    """Videos that are in memory together.

    Attributes:
        name: the same in every process.
        state: what is known of their part.
        videos: their names.
    """

    name: str
    state: _State
    videos: list[str]


def _tasks(states: Sequence[_State]) -> Iterator[_Task]:
    """All videos of all parts, as many at once as the part's metrics take."""
    for number, state in enumerate(states):
        size = max((metric.batch_size for metric in state.part.metrics), default=1)
        names = (name for name in state.part.sources if name not in state.part.refused)
        for first in itertools.count():
            batch = list(itertools.islice(names, size))
            if not batch:
                break
            yield _Task(f"{number}-{first}", state, batch)


def _gather(task: _Task, crew: Crew, on_wait: Callable[[], None]) -> None:
    """Wait for the scores of videos that another process took; score what a dead one left."""
    if crew.wait(task.name, on_wait):
        task.state.refused |= crew.refused(task.name)
    unknown = [name for name in task.videos if name not in task.state.refused]
    task.state.score([name for name in unknown if not task.state.find(name)])


def evaluate_each(
    sources: Mapping[str, Source],
    metrics: Sequence[Metric],
    *,
    work: Path | None = None,
    on_case: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Every metric of every video; :func:`score_parts` for one part, put together.

    Args:
        sources: the videos by name.
        metrics: metrics of any kind.
        work: a folder that keeps the scores of each video, so that the same call resumes.
        on_case: called with (videos done, all videos) after each one.
    """
    (scored,) = score_parts([Part(sources, metrics)], work=work, on_case=on_case)
    return scored.summarise()


class _State:
    """What is known of a part so far.

    Args:
        part: the part.
        work: a folder that keeps the scores; None to keep none.
    """

    def __init__(self, part: Part, work: Path | None) -> None:
        self.part = part
        self.results: dict[str, CaseScores] = {}
        self.refused = dict(part.refused)
        self._journal = ScoreJournal(work, part.metrics) if work is not None else None

    @property
    def num_done(self) -> int:
        """Videos with scores, or with a reason why there are none."""
        return len(self.results) + len(self.refused)

    def find(self, name: str) -> bool:
        """Take the scores that were kept, if there are any."""
        if self._journal is None:
            return False
        kept = self._journal.find(self.part.sources[name].about)
        # What one run could do without, another may need.
        if kept is None or not self.part.optional.issuperset(kept.lacking):
            return False
        self.results[name] = kept
        return True

    def score(self, names: Sequence[str]) -> None:
        """Read or make these videos, score them together and keep the scores."""
        waiting: list[Case] = []
        for name in names:
            try:
                waiting.append(replace(self.part.sources[name].read(), name=name))
            except (InputError, NumericsError, GuardrailError) as error:
                self.refused[name] = error
        scored, wrong = score_or_skip(waiting, self.part.metrics, self.part.optional)
        self.refused |= wrong
        for name, scores in scored.items():
            self.results[name] = scores
            if self._journal is not None:
                self._journal.record(self.part.sources[name].about, scores)

    def refused_of(self, names: Sequence[str]) -> dict[str, NemoCosmosError]:
        """Why these videos have no score, where they have none."""
        return {name: self.refused[name] for name in names if name in self.refused}

    def scored(self) -> Scored:
        """All of it, in the part's order."""
        names = self.part.sources
        results = {name: self.results[name] for name in names if name in self.results}
        refused = {name: self.refused[name] for name in names if name in self.refused}
        return Scored(self.part, results, refused)
