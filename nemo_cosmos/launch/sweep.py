"""A sweep: one recipe with several values of some keys, each value a run of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

from nemo_cosmos.errors import ConfigError, counted

#: More runs than this are a slip of the finger, or an experiment that wants a plan.
MOST_RUNS = 1000
FIXED_KEYS = frozenset({"log.name", "trainer.num_nodes", "trainer.devices"})
_UNSAFE = re.compile(r"[^\w.+-]+")


def sweep_variants(words: Sequence[str], name: str) -> list[tuple[str, ...]]:
    """Return the words that each run of a sweep adds to its command.

    Each run has a folder of its own, named after its values: runs of one folder would resume from
    each other's checkpoints.

    Args:
        words: ``KEY=VALUE,VALUE``; several keys give every combination. Commas within brackets
            belong to a value.
        name: the run's name without the sweep.

    Raises:
        ConfigError: another form, a key of ``FIXED_KEYS``, a key or value twice, or more than
            ``MOST_RUNS`` runs.
    """
    if not words:
        return []
    values = [_parsed(word) for word in words]
    keys = [key for key, _ in values]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ConfigError(
            f"--sweep names {', '.join(sorted(twice))} twice. Give all values of a key at once, "
            "with commas between."
        )
    if fixed := FIXED_KEYS.intersection(keys):
        raise ConfigError(
            f"--sweep cannot vary {', '.join(sorted(fixed))}: its runs have the same machines, and "
            "are named after their values."
        )
    runs = list(product(*([f"{key}={one}" for one in each] for key, each in values)))
    if len(runs) > MOST_RUNS:
        raise ConfigError(
            f"--sweep has {counted(len(runs), 'run')}; at most {MOST_RUNS} are started at once."
        )
    names = [f"{name}-{_label(run)}" for run in runs]
    if len(set(names)) < len(names):  # values that differ only in what a file name cannot hold
        names = [f"{one}-{place}" for place, one in enumerate(names)]
    return [(*run, f"log.name={one}") for run, one in zip(runs, names, strict=True)]


def _parsed(word: str) -> tuple[str, list[str]]:
    key, equals, text = word.partition("=")
    values = _split(text)
    if not key or not equals or not all(values):
        raise ConfigError(
            f"--sweep '{word}' is not of the form KEY=VALUE,VALUE. Write for example "
            "--sweep optim.config.lr=1e-5,1e-4."
        )
    if len(set(values)) < len(values):
        raise ConfigError(f"--sweep '{word}' names a value twice, which would run twice.")
    return key, values


def _split(text: str) -> list[str]:
    """Split at commas outside of brackets."""
    values, depth = [""], 0
    for character in text:
        depth += (character in "[({") - (character in "])}")
        if character == "," and depth == 0:
            values.append("")
        else:
            values[-1] += character
    return [value.strip() for value in values]


def _label(run: Sequence[str]) -> str:
    """Name a run: ``lr-1e-5`` of ``optim.config.lr=1e-5``."""
    pairs = (word.partition("=") for word in run)
    parts = [f"{key.rpartition('.')[2]}-{value}" for key, _, value in pairs]
    return _UNSAFE.sub("_", "-".join(parts)).strip("_")
