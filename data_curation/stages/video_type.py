"""Video type: what kind of video a clip is and where it was taken, by its ImageNet classes.

An honest guess: the probabilities of the classes that the taxonomy names for a label are added up,
and what is not likely enough is ``unknown``. It works on what the stage *embed* left, without a
look at the pictures, so that another taxonomy sorts a whole data set anew in moments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data_curation.embedding import EMBEDDED
from data_curation.embedding.sidecar import EMBEDDING_SUFFIX, ClipEmbedding
from data_curation.stages.base import (
    Clip,
    Rejection,
    Resources,
    Result,
    Stage,
    StageSettings,
    setting,
)
from data_curation.store import ClipStore
from data_curation.video_type.taxonomy import ASPECTS, UNKNOWN, Taxonomy, load_taxonomy
from nemo_cosmos.errors import ConfigError


@dataclass(frozen=True)
class VideoTypeSettings(StageSettings):
    """How clips are sorted.

    Attributes:
        taxonomy: a YAML or JSON file; the product's own by default.
        min_confidence: least probability of a label's classes; below it the label is ``unknown``.
        keep: labels of types or environments to keep; empty keeps all. ``unknown`` is one, too.
    """

    optional = True

    taxonomy: str = setting("", "YAML or JSON file of labels to sort by.", flag="--taxonomy")
    min_confidence: float = setting(0.3, "Less likely labels are 'unknown'.")
    keep: tuple[str, ...] = setting(
        (), "Keep only clips with this label; repeatable.", flag="--keep-type"
    )

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(
                f"The least confidence of a label is {self.min_confidence}; expected 0 to 1."
            )

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return VideoTypeStage(self, store)


class VideoTypeStage(Stage):
    """Sets ``video_type`` and ``environment`` of clips that the embedded model has embedded."""

    name = "video_type"
    inputs = ("clip_id", "suffixes", "extra", "scores")
    outputs = ("extra", "scores")
    scope = "dataset"
    resources = Resources(cpus=1.0, memory_gb=1.0)

    def __init__(self, settings: VideoTypeSettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store
        self._taxonomy: Taxonomy | None = None

    def prepare(self) -> None:
        """Read the taxonomy.

        Raises:
            ConfigError: it is not in the format, or has no label that is to be kept.
        """
        self._taxonomy = load_taxonomy(self.settings.taxonomy)
        known = {UNKNOWN}.union(*self._taxonomy.labels.values())
        for label in self.settings.keep:
            if label not in known:
                raise ConfigError(
                    f"The taxonomy has no label '{label}' to keep. It has: "
                    f"{', '.join(sorted(known))}."
                )

    def process(self, clip: Clip) -> Result:
        """Sort one clip."""
        taxonomy = self._taxonomy or load_taxonomy(self.settings.taxonomy)
        probability_K = self._probabilities(clip)
        facts, scores = {}, {}
        if probability_K is not None:
            for aspect in ASPECTS:
                label, chance = taxonomy.sort(aspect, probability_K, self.settings.min_confidence)
                facts[aspect], scores[f"{aspect}_confidence"] = label, round(chance, 4)
        found = set(facts.values()) or {UNKNOWN}
        if self.settings.keep and not found & set(self.settings.keep):
            detail = f"shows {' and '.join(sorted(found))}, not {' or '.join(self.settings.keep)}"
            return Rejection.of(clip, self.name, "video_type", detail)
        return replace(clip, extra={**clip.extra, **facts}).with_scores(**scores)

    def _probabilities(self, clip: Clip) -> NDArray[np.float32] | None:
        """Of the ImageNet classes, by the mean logits of the frames; None without an embedding."""
        from data_curation.embedding.encoders import EfficientNetEncoder, load_encoder

        if EMBEDDING_SUFFIX not in clip.suffixes:
            return None
        content = self._store.get(clip.clip_id, EMBEDDING_SUFFIX)
        embedding = ClipEmbedding.from_bytes(content, f"clip '{clip.clip_id}'")
        encoder = load_encoder(EMBEDDED) if embedding.model == EMBEDDED else None
        if not isinstance(encoder, EfficientNetEncoder):
            return None
        logits_K = encoder.classify(embedding.vector_D.astype(np.float32) * embedding.norm)
        odds_K = np.exp(logits_K - logits_K.max())
        return np.asarray(odds_K / odds_K.sum(), dtype=np.float32)
