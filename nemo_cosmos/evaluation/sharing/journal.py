"""Scores that are kept one video at a time, so that a run that was stopped computes none again."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from nemo_cosmos.evaluation.cases import CaseScores
from nemo_cosmos.evaluation.codes.counts import CodeCounts
from nemo_cosmos.evaluation.metric import Metric
from nemo_cosmos.exits import note_work
from nemo_cosmos.storage import atomic_path

#: Raise it when a metric's numbers change, so that kept ones are not taken for new ones.
VERSION = 1


class ScoreJournal:
    """Scores below one folder: an ``.npz`` file for each video, written whole.

    An entry counts as long as the files, the options, the prompt, the metrics and the versions of
    their features are the same.

    Args:
        folder: where the entries are; made when the first is written.
        metrics: the metrics that are computed.
    """

    def __init__(self, folder: Path, metrics: Sequence[Metric]) -> None:
        self._folder = folder
        self._asked = [
            [metric.name, asdict(metric.features) if metric.features is not None else None]
            for metric in metrics
        ]

    def find(self, about: object) -> CaseScores | None:
        """The scores that an earlier run kept, if there are any.

        Args:
            about: all that decides the scores besides the metrics; anything that JSON can hold.
        """
        try:
            # Opened here, because numpy leaves a damaged file open.
            with self._path(about).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                kept = json.loads(str(arrays["scores"]))
                features = {
                    name: (arrays[f"{name}/generated"], arrays[f"{name}/truth"])
                    for name in kept.pop("features")
                }
                size = kept.pop("codebook_size")
                codes = None
                if size is not None:
                    codes = CodeCounts(arrays["codes"][0], arrays["codes"][1], size)
            return CaseScores(**kept, features=features, codes=codes)
        except (FileNotFoundError, zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError):
            return None  # there is none, or it is damaged; it is computed and written again

    def record(self, about: object, scores: CaseScores) -> None:
        """Keep the scores of one video.

        Args:
            about: what the score depends on, as :meth:`find` takes it.
            scores: its scores.

        Raises:
            StorageFullError: no space left.
        """
        arrays: dict[str, np.ndarray] = {}
        for name, (generated_ND, truth_ND) in scores.features.items():
            arrays[f"{name}/generated"], arrays[f"{name}/truth"] = generated_ND, truth_ND
        kept = {
            "scores": scores.scores,
            "curves": scores.curves,
            "reasons": scores.reasons,
            "lacking": scores.lacking,
            "features": list(scores.features),
            "codebook_size": None if scores.codes is None else scores.codes.codebook_size,
        }
        if scores.codes is not None:
            arrays["codes"] = np.stack([scores.codes.codes_U, scores.codes.counts_U])
        with atomic_path(self._path(about)) as temporary, temporary.open("wb") as handle:
            np.savez(handle, allow_pickle=False, scores=np.array(json.dumps(kept)), **arrays)
        note_work()

    def _path(self, about: object) -> Path:
        content = json.dumps([VERSION, self._asked, about], sort_keys=True)
        return self._folder / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.npz"
