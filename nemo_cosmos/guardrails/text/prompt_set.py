"""Labelled prompts, and how well guards judge them.

A file has one prompt per line: label, kind and text, separated by tabs. The label is ``safe`` or a
category of harm; the kind is a scene (``driving``), or how the harm is said (``plain``,
``obfuscated``, ``pretext``). Lines that begin
with ``#`` are comments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from nemo_cosmos.errors import SampleError
from nemo_cosmos.guardrails.base import SAFE


@dataclass(frozen=True)
class LabelledPrompt:
    """One line of a file of prompts."""

    label: str
    kind: str
    text: str

    @property
    def harmful(self) -> bool:
        """Whether a guard should refuse it."""
        return self.label != SAFE


@dataclass(frozen=True)
class Quality:
    """How well a guard judged a file of prompts; a refusal is the positive answer."""

    num_prompts: int
    precision: float
    recall: float
    false_positive_rate: float
    recall_obfuscated: float

    def to_dict(self) -> dict[str, float]:
        """Return the fields, rounded to four places."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def read_prompts(path: Path) -> list[LabelledPrompt]:
    """Read a file of labelled prompts.

    Raises:
        SampleError: a line does not have three columns.
    """
    prompts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line or line.startswith("#"):
            continue
        columns = line.split("\t")
        if len(columns) != 3:
            raise SampleError(
                f"Line {number} of '{path}' has {len(columns)} columns, expected label, kind and "
                "prompt with tabs between. Correct the line."
            )
        prompts.append(LabelledPrompt(*columns))
    return prompts


def prompts_sha256(prompts: Iterable[LabelledPrompt]) -> str:
    """Return one hash of prompts with their labels and kinds, whatever their order."""
    lines = sorted("\t".join((prompt.label, prompt.kind, prompt.text)) for prompt in prompts)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def measure(
    prompts: Iterable[LabelledPrompt], is_allowed: Callable[[LabelledPrompt], bool]
) -> Quality:
    """Judge every prompt and count; ``prompts`` must include safe, harmful and obfuscated ones."""
    refused = {prompt: not is_allowed(prompt) for prompt in prompts}
    harmful = [prompt for prompt in refused if prompt.harmful]
    hidden = [prompt for prompt in harmful if prompt.kind == "obfuscated"]
    caught = sum(refused[prompt] for prompt in harmful)
    false_alarms = sum(refused.values()) - caught
    return Quality(
        num_prompts=len(refused),
        precision=caught / max(1, caught + false_alarms),
        recall=caught / len(harmful),
        false_positive_rate=false_alarms / (len(refused) - len(harmful)),
        recall_obfuscated=sum(refused[prompt] for prompt in hidden) / max(1, len(hidden)),
    )


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """Return the interval of 95 % of a share (Wilson 1927), which holds for shares near 0 and 1."""
    share, z2 = count / total, 1.959964**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = (z2 * (share * (1 - share) / total + z2 / (4 * total**2))) ** 0.5 / (1 + z2 / total)
    return max(0.0, centre - half), min(1.0, centre + half)
