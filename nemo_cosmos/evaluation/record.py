"""``evaluation.json``: the scores, and everything that is needed to compute them again.

One writer, :func:`make_record`, and one reader, :func:`read_record`, which trusts nothing: the file
may be cut off, edited, or of a later version.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nemo_cosmos.errors import ConfigError, MissingFileError
from nemo_cosmos.evaluation.drift import drift
from nemo_cosmos.evaluation.metric import Metric
from nemo_cosmos.evaluation.scoring import Evaluation
from nemo_cosmos.evaluation.statistics import BOOTSTRAP_SEED, LEVEL, NUM_RESAMPLES, Score
from nemo_cosmos.provenance.belonging import ALLOWED_KEY
from nemo_cosmos.provenance.record import library_versions
from nemo_cosmos.storage import atomic_path

EVALUATION_FILE = "evaluation.json"
FORMAT = "nemo_cosmos.evaluation"
VERSION = 1


@dataclass(frozen=True)
class EvaluationRecord:
    """What an ``evaluation.json`` holds.

    Attributes:
        place: the file, for messages.
        metrics: unit, direction and features of each metric by name.
        scores: the number of each metric over all videos.
        clips: the numbers of each video by its name.
        inputs: what was evaluated and how, enough to do it again.
        skipped: why a video has no score, by its name.
        content: the whole file.
    """

    place: str
    metrics: Mapping[str, Mapping[str, Any]]
    scores: Mapping[str, Score]
    clips: Mapping[str, Mapping[str, float]]
    inputs: Mapping[str, Any]
    skipped: Mapping[str, str] = field(default_factory=dict)
    content: Mapping[str, Any] = field(default_factory=dict)

    def truth_sha256(self, clip: str) -> str | None:
        """Hash of the true video that a clip was compared with; None where it is not recorded."""
        hashes = self.inputs.get("sha256")
        found = hashes.get(clip) if isinstance(hashes, Mapping) else None
        if isinstance(found, list):  # of two folders: the generated file, then the true one
            has_truth = self.inputs.get("truth") is not None and len(found) > 1
            found = found[1] if has_truth else None
        return found if isinstance(found, str) else None

    def at(self, places: Mapping[str, Path]) -> EvaluationRecord:
        """The same record, of inputs that have moved.

        Args:
            places: where inputs are now, by their name in the record: ``world``, ``data``.

        Raises:
            ConfigError: the record has no such input.
        """
        for name in places:
            if not isinstance(self.inputs.get(name), str):
                raise ConfigError(
                    f"'{self.place}' is an evaluation without '{name}', so that none can have "
                    f"moved to '{places[name]}'. Leave it out."
                )
        moved = {name: str(place) for name, place in places.items()}
        return replace(self, inputs={**self.inputs, **moved})

    @property
    def written_by(self) -> str:
        """The version of nemo_cosmos that wrote it, as far as it says."""
        return _written_by(self.content)


def make_record(
    evaluation: Evaluation, inputs: Mapping[str, Any], duration_s: float | None = None
) -> dict[str, Any]:
    """Return the content of ``evaluation.json``.

    Args:
        evaluation: the scores.
        inputs: what was evaluated and how; whoever evaluates can do it again from this.
        duration_s: how long it took; None where it was not measured.
    """
    record: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration_s": None if duration_s is None else round(duration_s, 3),
        "num_clips": len(evaluation.clips),
        "scores": {name: score.to_json() for name, score in evaluation.scores.items()},
        "interval": {"level": LEVEL, "seed": BOOTSTRAP_SEED, "resamples": NUM_RESAMPLES},
        "drift": {name: score.to_json() for name, score in drift(evaluation).items()},
        "metrics": {metric.name: describe(metric) for metric in evaluation.metrics},
        "clips": {name: clip.scores for name, clip in evaluation.clips.items()},
        "skipped": evaluation.skipped,
        "not_computed": evaluation.not_computed,
        "lacking": evaluation.lacking,
        "reasons": {name: clip.reasons for name, clip in evaluation.clips.items() if clip.reasons},
        "inputs": dict(inputs),
        "versions": library_versions(),
        "machine": {"processor": platform.processor() or platform.machine()},
    }
    if evaluation.allowed_mismatch:
        record[ALLOWED_KEY] = evaluation.allowed_mismatch
    return record


def describe(metric: Metric, with_features: bool = True) -> dict[str, Any]:
    """Return what makes two numbers of a metric comparable, and how to read them.

    Args:
        metric: the metric.
        with_features: whether to name the features; those of a judge are known only where one is
            configured.

    Raises:
        ConfigError: the metric is a judge, and none is configured.
    """
    features = metric.features if with_features else None
    return {
        "kind": metric.kind,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "is_quality": metric.is_quality,
        "is_repeatable": metric.is_repeatable,
        "description": metric.description,
        "needs": sorted(metric.needs),
        "features": (
            None if features is None else {"name": features.name, "version": features.version}
        ),
        "batching": {"videos": metric.batch_size, "frames": metric.frames_per_call},
    }


def write_record(record: Mapping[str, Any], folder: Path) -> Path:
    """Write ``evaluation.json`` whole, or not at all.

    Args:
        record: its content.
        folder: where it goes.

    Raises:
        StorageFullError: no space left.
    """
    file = folder / EVALUATION_FILE
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", "utf-8")
    return file


def read_record(path: Path) -> EvaluationRecord:
    """Read an ``evaluation.json``.

    Args:
        path: the file, or the folder that holds it.

    Raises:
        MissingFileError: there is none.
        ConfigError: it is damaged, or something else.
    """
    file = path / EVALUATION_FILE if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(
            f"There is no evaluation '{file}'. Name an {EVALUATION_FILE}, or the folder that "
            "'nemo-cosmos evaluate --out' wrote."
        ) from error
    except (OSError, ValueError, RecursionError) as error:  # lists within lists without end
        raise ConfigError(f"The evaluation '{file}' is damaged: {error}. {_AGAIN}") from error
    return as_record(content, str(file))


def as_record(content: object, place: str) -> EvaluationRecord:
    """Check the content of an ``evaluation.json``.

    Args:
        content: what the file holds.
        place: the file, for messages.

    Raises:
        ConfigError: it is damaged, or something else.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(
            f"'{place}' is not an evaluation: its \"format\" is not '{FORMAT}'. Name a file that "
            "'nemo-cosmos evaluate --out' wrote."
        )
    if content.get("version") != VERSION or content.get("version") is True:
        raise ConfigError(
            f"'{place}' is an evaluation of version {content.get('version')}; this nemo_cosmos "
            f"reads version {VERSION}. Evaluate again, or install the nemo_cosmos that wrote it: "
            f"{_written_by(content)}."
        )
    try:
        scores = {name: _score(found) for name, found in content["scores"].items()}
        clips = {
            clip: {name: _finite(value) for name, value in numbers.items()}
            for clip, numbers in content["clips"].items()
        }
        metrics = {name: _metric(name, found) for name, found in content["metrics"].items()}
        if set(metrics) != set(scores):
            raise ValueError("its 'metrics' and 'scores' name different metrics")
        if not scores:
            raise ValueError("it holds no score")
        skipped = {str(name): str(reason) for name, reason in content["skipped"].items()}
        inputs = dict(content["inputs"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"The evaluation '{place}' is damaged: {reason}. {_AGAIN}") from error
    return EvaluationRecord(place, metrics, scores, clips, inputs, skipped, content)


_AGAIN = "Evaluate again, or restore the file."


def _written_by(content: Mapping[str, Any]) -> str:
    """The version of nemo_cosmos that wrote a record, as far as it says."""
    versions = content.get("versions")
    return str(versions.get("nemo_cosmos")) if isinstance(versions, dict) else "unknown"


def _metric(name: str, found: object) -> dict[str, Any]:
    """What makes two numbers of a metric comparable."""
    if not isinstance(found, dict):
        raise ValueError(f"the metric '{name}' is {found!r:.40}")
    if not isinstance(found["unit"], str) or not isinstance(found["higher_is_better"], bool):
        raise ValueError(f"the metric '{name}' lacks its unit or direction")
    return found


def _score(found: Mapping[str, Any]) -> Score:
    ends = [None if found[end] is None else _finite(found[end]) for end in ("low", "high")]
    if isinstance(found["num"], bool) or not isinstance(found["num"], int) or found["num"] < 1:
        raise ValueError(f"a score is of {found['num']!r} videos")
    if (ends[0] is None) != (ends[1] is None) or (ends[0] or 0.0) > (ends[1] or 0.0):
        raise ValueError(f"a score's interval is {ends[0]} to {ends[1]}")
    return Score(_finite(found["value"]), ends[0], ends[1], found["num"])


def _finite(value: object) -> float:
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):  # a whole number may be larger than any float
            number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r:.40} stands where a number must be")
    return number
