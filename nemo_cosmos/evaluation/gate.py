"""Requirements on scores: ``psnr>22`` holds only where the whole interval lies above 22."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.evaluation.statistics import Score

_FORM = re.compile(r"\s*([\w.-]+?)\s*(>=|<=|>|<)\s*(\S+)\s*")
_HOLDS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


@dataclass(frozen=True)
class Requirement:
    """A bound on a score.

    Attributes:
        name: the score's name.
        relation: one of > >= < <=.
        bound: the number.
    """

    name: str
    relation: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Read ``NAME>NUMBER``.

        Raises:
            ConfigError: it has another form.
        """
        match = _FORM.fullmatch(text)
        try:
            bound = float(match[3]) if match else math.nan
        except ValueError:
            bound = math.nan
        if match is None or not math.isfinite(bound):
            raise ConfigError(
                f"The requirement '{text}' is not NAME>NUMBER. Expected a score, one of > >= < <=, "
                "and a number, for example --require 'psnr>22'. Quote it, because > means a file "
                "to the shell."
            )
        return cls(match[1], match[2], bound)

    def failure(self, scores: Mapping[str, Score]) -> str | None:
        """What is wrong, or None where the requirement holds with its whole interval.

        Args:
            scores: the scores by name.

        Raises:
            ConfigError: there is no score of that name.
        """
        if self.name not in scores:
            raise ConfigError(
                f"--require names '{self.name}', which was not computed. The nearest are "
                f"{nearest_names(self.name, scores)}."
            )
        score = scores[self.name]
        end = score.low if self.relation in (">", ">=") else score.high
        holds = _HOLDS[self.relation]
        if end is not None and holds(end, self.bound):
            return None
        wanted = f"{self.name} {self.relation} {self.bound:g}"
        if end is None:
            return (
                f"{wanted} is not shown: {score.value:.4g} is of one video, which gives no "
                "interval. Evaluate more."
            )
        if holds(score.value, self.bound):
            return f"{wanted} is not shown: the interval of {score} reaches beyond {self.bound:g}."
        return f"{wanted} does not hold: {score}."


def failures(requirements: Iterable[Requirement], scores: Mapping[str, Score]) -> list[str]:
    """What is wrong with the scores; empty where every requirement holds."""
    return [text for one in requirements if (text := one.failure(scores)) is not None]
