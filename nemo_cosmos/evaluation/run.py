"""Score many videos one after the other, keep each score, and go on after a stop.

Videos come from wherever the caller has them: two folders, or a model that makes one when it is
asked. What was scored before is neither read nor made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from nemo_cosmos.errors import GuardrailError, InputError, NemoCosmosError, NumericsError
from nemo_cosmos.evaluation.journal import ScoreJournal
from nemo_cosmos.evaluation.metric import Case, JudgeMetric, Metric
from nemo_cosmos.evaluation.scoring import CaseScores, Evaluation, score_or_skip, summarise


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


def evaluate_each(
    sources: Mapping[str, Source],
    metrics: Sequence[Metric],
    *,
    work: Path | None = None,
    on_case: Callable[[int, int], None] | None = None,
    skipped: Mapping[str, NemoCosmosError] | None = None,
    first_frame: int = 0,
) -> Evaluation:
    """Every metric of every video.

    Args:
        sources: the videos by name.
        metrics: metrics of any kind.
        work: a folder that keeps the scores of each video, so that the same call resumes.
        on_case: called with (videos done, all videos) after each one.
        skipped: videos that are known to have no score, and why.
        first_frame: the number of the first frame that is compared.

    Returns:
        the scores; a video that cannot be scored is skipped with its reason.

    Raises:
        InputError: no video can be scored, or there are too few for a set metric.
        ServiceError: a judge cannot be asked.
    """
    journal = ScoreJournal(work, metrics) if work is not None else None
    results: dict[str, CaseScores] = {}
    refused = dict(skipped or {})
    for names in _batches([name for name in sources if name not in refused], metrics):
        waiting: list[Case] = []
        for name in names:
            kept = journal.find(sources[name].about) if journal is not None else None
            if kept is not None:
                results[name] = kept
                continue
            try:
                waiting.append(replace(sources[name].read(), name=name))
            except (InputError, NumericsError, GuardrailError) as error:
                refused[name] = error
        scored, wrong = score_or_skip(waiting, metrics)
        refused |= wrong
        for name, scores in scored.items():
            results[name] = scores
            if journal is not None:
                journal.record(sources[name].about, scores)
        if on_case is not None:
            on_case(len(results) + len(refused), len(sources))
    if not results:
        raise next(iter(refused.values()))
    in_order = {name: results[name] for name in sources if name in results}
    evaluation = summarise(in_order, metrics, first_frame)
    reasons = {name: str(refused[name]) for name in sources if name in refused}
    return replace(evaluation, skipped=reasons)


def _batches(names: Sequence[str], metrics: Sequence[Metric]) -> Iterator[list[str]]:
    """Names of the videos that are in memory together, as many as a judge takes at once."""
    judges = [metric.batch_size for metric in metrics if isinstance(metric, JudgeMetric)]
    size, waiting = max(judges, default=1), iter(names)
    while batch := list(islice(waiting, size)):
        yield batch
