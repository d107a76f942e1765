"""Score many videos one after the other, keep each score, and go on after a stop.

Videos come from wherever the caller has them: two folders, or a model that makes one when it is
asked. What was scored before is neither read nor made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from nemo_cosmos.errors import GuardrailError, InputError, NemoCosmosError, NumericsError
from nemo_cosmos.evaluation.cases import CaseScores, score_or_skip
from nemo_cosmos.evaluation.journal import ScoreJournal
from nemo_cosmos.evaluation.metric import Case, Metric
from nemo_cosmos.evaluation.scoring import Evaluation, summarise


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

    def summarise(self) -> Evaluation:
        """The numbers of all videos together.

        Raises:
            InputError: there are too few videos for a set metric.
        """
        part = self.part
        evaluation = summarise(self.results, part.metrics, part.first_frame, part.optional)
        reasons = {name: str(error) for name, error in self.refused.items()}
        return replace(evaluation, skipped=reasons)


def score_parts(
    parts: Sequence[Part],
    *,
    work: Path | None = None,
    on_case: Callable[[int, int], None] | None = None,
) -> list[Scored]:
    """Every metric of every video of several parts.

    Args:
        parts: the videos, and what is computed of each.
        work: a folder that keeps the scores of each video, so that the same call resumes.
        on_case: called with (videos done, all videos) after each one.

    Returns:
        the scores of each part; a video that cannot be scored is refused with its reason.

    Raises:
        InputError: no video of a part can be scored.
        ServiceError: a judge cannot be asked.
    """
    states = [_State(part, work) for part in parts]
    total = sum(len(part.sources) for part in parts)
    for state in states:
        names = [name for name in state.part.sources if name not in state.refused]
        for batch in _batches(names, state.part.metrics):
            state.score([name for name in batch if not state.find(name)])
            if on_case is not None:
                on_case(sum(one.num_done for one in states), total)
    return [state.scored() for state in states]


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

    def scored(self) -> Scored:
        """All of it, in the part's order.

        Raises:
            InputError: no video can be scored.
        """
        if not self.results:
            raise next(iter(self.refused.values()))
        names = self.part.sources
        results = {name: self.results[name] for name in names if name in self.results}
        refused = {name: self.refused[name] for name in names if name in self.refused}
        return Scored(self.part, results, refused)


def _batches(names: Sequence[str], metrics: Sequence[Metric]) -> Iterator[list[str]]:
    """Names of the videos that are in memory together, as many as a metric takes at once."""
    size, waiting = max((metric.batch_size for metric in metrics), default=1), iter(names)
    while batch := list(islice(waiting, size)):
        yield batch
