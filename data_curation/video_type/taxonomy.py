"""The labels that clips are sorted by, how classes of a picture vote for them, and its objects."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import ConfigError, MissingFileError

UNKNOWN = "unknown"
NUM_CLASSES = 1000
DEFAULT_FILE = Path(__file__).parent / "taxonomy.yaml"
#: What a taxonomy sorts by, in this order, and what it names besides.
ASPECTS, OBJECTS = ("video_type", "environment"), "objects"
_LABEL = re.compile(r"[a-z][a-z0-9_]*")
#: How many times as likely as the next one of its kind an object must be to be named.
_CLEARLY = 2.0


@dataclass(frozen=True)
class Label:
    """One label.

    Attributes:
        classes: the ImageNet classes for it; none where they cannot show it.
        prompt: the label's meaning in words, for models that read.
        kind: the more general word for an object, where another of its kind looks alike.
    """

    classes: tuple[int, ...]
    prompt: str
    kind: str = ""


@dataclass(frozen=True)
class Taxonomy:
    """Labels by aspect (``video_type``, ``environment``), and objects."""

    labels: Mapping[str, Mapping[str, Label]]

    def votes(self, aspect: str, probability_K: NDArray[np.float32]) -> dict[str, float]:
        """Probability of each label that has classes."""
        return {
            name: float(probability_K[list(label.classes)].sum())
            for name, label in self.labels.get(aspect, {}).items()
            if label.classes
        }

    def objects(self, probability_K: NDArray[np.float32], min_confidence: float) -> list[str]:
        """Names of the objects that are at least so likely, likeliest first.

        Where it is not clear which one of a kind is seen, the word for the kind stands for them.
        """
        votes = self.votes(OBJECTS, probability_K)
        kinds: dict[str, dict[str, float]] = {}
        for name, vote in votes.items():
            kinds.setdefault(self.labels[OBJECTS][name].kind or name, {})[name] = vote
        found: list[tuple[float, str]] = []
        for kind, members in kinds.items():
            first, second = sorted([*members.values(), 0.0], reverse=True)[:2]
            name, likely = max(members, key=lambda each: members[each]), first
            if first < max(min_confidence, _CLEARLY * second):
                name, likely = kind, sum(members.values())
            found += [(likely, name)] if likely >= min_confidence else []
        return [name for _, name in sorted(found, key=lambda each: -each[0])]


def likeliest(votes: Mapping[str, float], min_confidence: float) -> tuple[str, float]:
    """The label with most votes, and these; :data:`UNKNOWN` where they are too few."""
    if not votes:
        return UNKNOWN, 0.0
    label = max(votes, key=lambda name: votes[name])
    return (label, votes[label]) if votes[label] >= min_confidence else (UNKNOWN, votes[label])


def load_taxonomy(path: str | os.PathLike[str] = "") -> Taxonomy:
    """Read a taxonomy.

    Args:
        path: YAML or JSON; the product's own by default.

    Raises:
        MissingFileError: it is not there.
        ConfigError: it is not in the format; says where.
    """
    import yaml

    file = Path(path) if path else DEFAULT_FILE
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingFileError(
            f"The taxonomy '{file}' cannot be read: {error.strerror}. Check the spelling."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"The taxonomy '{file}' is not YAML or JSON: {error}.") from error
    if not isinstance(content, dict) or not content or set(content) - {*ASPECTS, OBJECTS}:
        raise ConfigError(
            f"The taxonomy '{file}' must hold {', '.join(ASPECTS)} and {OBJECTS}, or some of them, "
            f"with their labels; see '{DEFAULT_FILE}'."
        )
    return Taxonomy({aspect: _labels(content[aspect], aspect, file) for aspect in content})


def _labels(content: object, aspect: str, file: Path) -> dict[str, Label]:
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"'{aspect}' of the taxonomy '{file}' holds no labels.")
    found = {}
    for label, entry in content.items():
        if not isinstance(label, str) or not _LABEL.fullmatch(label) or label == UNKNOWN:
            raise ConfigError(
                f"'{label}' in '{aspect}' of the taxonomy '{file}' cannot be a label; expected "
                f"lower-case letters, digits and '_', and not '{UNKNOWN}'."
            )
        prompt = entry.get("prompt", label.replace("_", " ")) if isinstance(entry, dict) else None
        kind = entry.get("kind", "") if isinstance(entry, dict) else None
        is_known = {"imagenet"} <= set(entry) <= {"imagenet", "prompt", "kind"}
        if not isinstance(prompt, str) or not isinstance(kind, str) or not is_known:
            raise ConfigError(
                f"The label '{label}' of the taxonomy '{file}' must hold 'imagenet', a list of "
                "class numbers, which may be empty, may hold 'prompt', what it stands for in "
                "words, and 'kind', the more general word for an object, and nothing else."
            )
        found[label] = Label(_classes(entry["imagenet"], label, file), prompt, kind)
    return found


def _classes(entries: object, label: str, file: Path) -> tuple[int, ...]:
    """Class numbers of a list of numbers and of ranges such as ``"281-285"``, each once."""
    numbers: set[int] = set()
    for entry in entries if isinstance(entries, list) else [entries]:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", str(entry))
        span: Iterable[int] = ()
        if match:
            span = range(int(match[1]), int(match[2] or match[1]) + 1)
        chosen = set(span)
        if not chosen or max(chosen) >= NUM_CLASSES:
            raise ConfigError(
                f"{entry!r} of the label '{label}' in the taxonomy '{file}' is no ImageNet class; "
                f'expected numbers from 0 to {NUM_CLASSES - 1}, or ranges such as "281-285".'
            )
        numbers |= chosen
    return tuple(sorted(numbers))
