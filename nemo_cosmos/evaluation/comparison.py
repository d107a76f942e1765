"""Two evaluations side by side: which is better, and did a number come out again?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.evaluation.record import EvaluationRecord
from nemo_cosmos.evaluation.statistics import Score, paired_difference

if TYPE_CHECKING:
    from rich.table import Table

NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class Difference:
    """One metric of two evaluations.

    Attributes:
        metric: its name.
        unit: its unit.
        first: the score in the first.
        second: the score in the second.
        difference: second - first over the videos that both have; None for a metric of a whole
            set, which has no number for each video.
        verdict: what may be concluded, in words.
    """

    metric: str
    unit: str
    first: Score
    second: Score
    difference: Score | None
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "metric": self.metric,
            "unit": self.unit,
            "first": self.first.to_json(),
            "second": self.second.to_json(),
            "difference": None if self.difference is None else self.difference.to_json(),
            "verdict": self.verdict,
        }


def compare(first: EvaluationRecord, second: EvaluationRecord) -> list[Difference]:
    """Differences of the metrics that two evaluations share, over the videos that they share.

    Args:
        first: the baseline.
        second: what is compared with it.

    Raises:
        ConfigError: they share no metric or no video, a metric looks through other features, or a
            video was compared with two different truths.
    """
    shared = [name for name in first.scores if name in second.scores]
    clips = [name for name in first.clips if name in second.clips]
    places = f"'{first.place}' and '{second.place}'"
    if not shared:
        raise ConfigError(
            f"{places} share no metric: {', '.join(first.scores)} against "
            f"{', '.join(second.scores)}. Evaluate both with the same --metric."
        )
    if not clips:
        raise ConfigError(
            f"{places} share no video, so that no pair can be compared. Evaluate both on the same "
            "files."
        )
    for clip in clips:
        truths = {first.truth_sha256(clip), second.truth_sha256(clip)} - {None}
        if len(truths) > 1:
            raise ConfigError(
                f"'{clip}' was compared with one true video in '{first.place}' and with another in "
                f"'{second.place}'. Evaluate both against the same truth."
            )
    for name in shared:
        features = [record.metrics[name].get("features") for record in (first, second)]
        if features[0] != features[1]:
            raise ConfigError(
                f"The metric '{name}' of {places} looks through different features: {features[0]} "
                f"and {features[1]}. Such numbers cannot be compared; evaluate one of them again."
            )
    return [_difference(name, first, second, clips) for name in shared]


def _difference(
    name: str, first: EvaluationRecord, second: EvaluationRecord, clips: list[str]
) -> Difference:
    about = first.metrics[name]
    both = first.scores[name], second.scores[name]
    paired = [clip for clip in clips if name in first.clips[clip] and name in second.clips[clip]]
    if not paired:
        return Difference(
            name, about["unit"], *both, None, "a number of the whole set: compare the intervals"
        )
    difference = paired_difference(
        [second.clips[clip][name] for clip in paired], [first.clips[clip][name] for clip in paired]
    )
    if difference.low is None:
        verdict = "one video: " + NO_DIFFERENCE
    elif not difference.excludes_zero:
        verdict = NO_DIFFERENCE
    else:
        is_better = (difference.value > 0) == about["higher_is_better"]
        verdict = "the second is better" if is_better else "the first is better"
    return Difference(name, about["unit"], *both, difference, verdict)


@dataclass(frozen=True)
class Repetition:
    """One metric, computed again.

    Attributes:
        metric: its name.
        before: the recorded score.
        now: the new one.
        comes_out: whether the new value lies within the recorded interval.
        is_equal: whether it is the recorded value but for rounding.
    """

    metric: str
    before: Score
    now: Score
    comes_out: bool
    is_equal: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "metric": self.metric,
            "before": self.before.to_json(),
            "now": self.now.to_json(),
            "comes_out": self.comes_out,
            "is_equal": self.is_equal,
        }


def check_repetition(before: EvaluationRecord, now: EvaluationRecord) -> list[Repetition]:
    """Whether each recorded score comes out again; durations are not asked for.

    Args:
        before: what was recorded.
        now: the same evaluation, computed again.

    Raises:
        ConfigError: the features of a metric are of another version.
    """
    found = []
    for name, old in before.scores.items():
        if not before.metrics[name].get("is_repeatable", True):
            continue
        features = [record.metrics[name].get("features") for record in (before, now)]
        if features[0] != features[1]:
            raise ConfigError(
                f"The metric '{name}' looked through {features[0]}, here through {features[1]}: "
                "its number cannot be repeated. Install the recorded version "
                f"({before.written_by})."
            )
        new = now.scores[name]
        is_equal = old.is_equal(new.value)
        # A skewed interval of a number of a whole set can leave out the number itself.
        comes_out = is_equal or old.covers(new.value)
        found.append(Repetition(name, old, new, comes_out, is_equal))
    return found


def differences_table(differences: list[Difference]) -> Table:
    """A table with a row for each metric that two evaluations share."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("metric", "first", "second", "second - first", title="Paired by video")
    table.add_column("verdict", no_wrap=True)
    for one in differences:
        name = f"{one.metric}, {one.unit}" if one.unit else one.metric
        cells = map(in_cell, (one.first, one.second, one.difference))
        table.add_row(escape(name), *cells, one.verdict)
    return table


def repetition_table(repetitions: list[Repetition]) -> Table:
    """A table that shows which recorded scores came out again."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("metric", "recorded", "now", "", title="Computed again")
    for one in repetitions:
        sign = "the same" if one.is_equal else "within" if one.comes_out else "[red]outside[/red]"
        table.add_row(escape(one.metric), in_cell(one.before), in_cell(one.now), sign)
    return table


def in_cell(score: Score | None) -> str:
    """A score in two lines of a table's cell."""
    if score is None:
        return ""
    if score.low is None or score.high is None:
        return f"{score.value:.3f}"
    return f"{score.value:.3f}\n\\[{score.low:.3f}, {score.high:.3f}]"
