"""Video type: what kind of video a clip is, where it was taken, and what objects it shows.

By default this is an estimate from the embedding that *embed* left, without the pictures, so that a
whole data set is sorted again by another taxonomy in moments. With the embedded network the
probabilities of the ImageNet classes that the taxonomy names for a label are added up; with a CLIP
model its text half reads the labels. What is not likely enough is ``unknown``. Or a vision-language
model is asked for one label of each aspect; an answer that is no label is ``unknown``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_curation.captions.interview import Ask, Interview, VisionModel
from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.embedding.sidecar import EMBEDDING_SUFFIX, ClipEmbedding
from data_curation.frames import spread
from data_curation.stages.base import DatasetStage, Stage, StageSettings, ignore_progress
from data_curation.store import ClipStore
from data_curation.video_type.questions import MAX_TOKENS, chosen_label, question, reminder
from data_curation.video_type.taxonomy import (
    ASPECTS,
    OBJECTS,
    UNKNOWN,
    Taxonomy,
    likeliest,
    load_taxonomy,
)
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.options import limited, option
from nemo_cosmos.perception import EMBEDDED

TypeMethod = Literal["embedding", "vlm"]


@dataclass(frozen=True)
class VideoTypeSettings(StageSettings):
    """How clips are sorted.

    Attributes:
        by: ``embedding``, or ``vlm`` to ask a model.
        taxonomy: a YAML or JSON file; the product's own by default.
        min_confidence: least probability of a label by embedding; below it the label is
            ``unknown``.
        min_object_confidence: least probability of an object that is named.
        keep: labels of types or environments to keep; empty keeps all. ``unknown`` is one, too.
        num_frames: frames that the model is shown, evenly over the clip.
        vlm: the model to ask; in a run by default the one that captions.
        embedder: name of the model that embedded the clips; set by the run.

    Raises:
        ConfigError: there is no such way to sort, or a number is out of range.
    """

    optional = True

    by: TypeMethod = option(
        "embedding", "Sort by 'embedding', or ask the model of --vlm-url: 'vlm'.", flag="--type-by"
    )
    taxonomy: str = option("", "YAML or JSON file of labels to sort by.", flag="--taxonomy")
    min_confidence: float = option(0.3, "Less likely labels are 'unknown'.", least=0, most=1)
    min_object_confidence: float = option(
        0.5, "Less likely objects are not named.", least=0, most=1
    )
    keep: tuple[str, ...] = option(
        (), "Keep only clips with this label; repeatable.", flag="--keep-type"
    )
    num_frames: int = limited(8, least=1, most=1000)
    vlm: VisionModel = field(default_factory=VisionModel)
    embedder: str = EMBEDDED

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return VideoTypeStage(self, store)


class VideoTypeStage(DatasetStage):
    """Sets ``video_type``, ``environment``, who says so (``type_source``), and ``objects``."""

    name = "video_type"
    inputs = ("clip_id", "suffixes", "extra", "scores", "content_sha256", "num_frames", "fps")
    outputs = ("extra", "scores")
    resources = Resources(cpus=1.0, memory_gb=1.0)

    def __init__(self, settings: VideoTypeSettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store
        self._read: Taxonomy | None = None

    @property
    def _taxonomy(self) -> Taxonomy:
        if self._read is None:
            self._read = load_taxonomy(self.settings.taxonomy)
        return self._read

    def prepare(self) -> None:
        """Read the taxonomy.

        Raises:
            ConfigError: it is not in the format, or has no label that is to be kept; or a model is
                to be asked and none is named.
        """
        known = {UNKNOWN}.union(*(self._taxonomy.labels.get(aspect, ()) for aspect in ASPECTS))
        for label in self.settings.keep:
            if label not in known:
                raise ConfigError(
                    f"The taxonomy has no label '{label}' to keep. It has: "
                    f"{', '.join(sorted(known))}."
                )
        if self.settings.by == "vlm" and not self.settings.vlm.url:
            raise ConfigError(
                "Clips are to be sorted by a vision-language model, but none is named. Add "
                "--vlm-url and --vlm-model, or use --type-by embedding."
            )

    def process_all(
        self, clips: Sequence[Clip], advance: Callable[[], None] = ignore_progress
    ) -> list[Result]:
        """Sort all clips.

        Raises:
            ServiceError: the endpoint gives no answers; those it gave are kept.
            ConfigError: the URL, the key or the name of the model is wrong.
        """
        if self.settings.by == "embedding":
            results = []
            for clip in clips:
                results.append(self._keep(self._by_embedding(clip)))
                advance()
            return results
        # The labels and what they stand for, and what is shown, decide the answer.
        asked = {aspect: self._question(aspect) for aspect in ASPECTS}
        shown = [self.settings.vlm.model, self.settings.vlm.long_side_px, self.settings.num_frames]
        interview = Interview(
            self.settings.vlm, self._store, "types", {"asked": asked, "shown": shown}
        )
        answers = interview.run(clips, self._ask, advance)
        return [
            self._keep(self._by_answer(clip, answer))
            for clip, answer in zip(clips, answers, strict=True)
        ]

    def _keep(self, clip: Clip) -> Result:
        found = {clip.extra[aspect] for aspect in ASPECTS if aspect in clip.extra} or {UNKNOWN}
        if self.settings.keep and not found & set(self.settings.keep):
            detail = f"shows {' and '.join(sorted(found))}, not {' or '.join(self.settings.keep)}"
            return Rejection.of(clip, self.name, "video_type", detail)
        return clip

    def _question(self, aspect: str) -> str:
        return question(aspect, self._taxonomy.labels.get(aspect, {}))

    async def _ask(self, clip: Clip, ask: Ask) -> dict[str, str]:
        """Ask for one label of each aspect, and a second time where the answer is no label."""
        numbers = np.unique(spread(clip.num_frames, self.settings.num_frames))
        answers = {}
        for aspect, labels in self._taxonomy.labels.items():
            if aspect not in ASPECTS:
                continue
            asked = self._question(aspect)
            said = await ask(numbers, asked, MAX_TOKENS)
            label = chosen_label(said, labels)
            if label is None:
                label = chosen_label(await ask(numbers, reminder(asked, said), MAX_TOKENS), labels)
            answers[aspect] = label or UNKNOWN
        return answers

    def _by_answer(self, clip: Clip, answer: dict[str, str] | Exception) -> Clip:
        """What the model said, with the objects of the embedding; nothing where it refused."""
        labels = dict.fromkeys(ASPECTS, UNKNOWN) if isinstance(answer, Exception) else answer
        probability_K = _imagenet(self._embedding(clip))
        facts = {**clip.extra, **labels, "type_source": self.settings.vlm.model}
        return replace(clip, extra={**facts, **self._objects(probability_K)})

    def _by_embedding(self, clip: Clip) -> Clip:
        embedding = self._embedding(clip)
        if embedding is None:
            return clip
        probability_K = _imagenet(embedding)
        facts: dict[str, object] = {**clip.extra, "type_source": embedding.model}
        scores = {}
        for aspect in ASPECTS:
            if probability_K is not None:
                votes: Mapping[str, float] = self._taxonomy.votes(aspect, probability_K)
            else:
                votes = self._by_text(aspect, embedding)
            label, chance = likeliest(votes, self.settings.min_confidence)
            facts[aspect], scores[f"{aspect}_confidence"] = label, round(chance, 4)
        facts |= self._objects(probability_K)
        return replace(clip, extra=facts).with_scores(**scores)

    def _by_text(self, aspect: str, embedding: ClipEmbedding) -> Mapping[str, float]:
        """Probability of each label by the text half of the model that embedded the clip."""
        from nemo_cosmos.perception.zero_shot import label_chances

        labels = self._taxonomy.labels.get(aspect, {})
        texts = tuple(f"a video of {label.prompt}" for label in labels.values())
        chances = label_chances(self.settings.embedder, texts, embedding.vector_D)
        return dict(zip(labels, chances, strict=True)) if chances else {}

    def _objects(self, probability_K: NDArray[np.float32] | None) -> dict[str, list[str]]:
        if probability_K is None or OBJECTS not in self._taxonomy.labels:
            return {}
        least = self.settings.min_object_confidence
        return {OBJECTS: self._taxonomy.objects(probability_K, least)}

    def _embedding(self, clip: Clip) -> ClipEmbedding | None:
        if EMBEDDING_SUFFIX not in clip.suffixes:
            return None
        content = self._store.get(clip.clip_id, EMBEDDING_SUFFIX)
        return ClipEmbedding.from_bytes(content, f"clip '{clip.clip_id}'")


def _imagenet(embedding: ClipEmbedding | None) -> NDArray[np.float32] | None:
    """Probabilities of the ImageNet classes, by the mean logits of the frames.

    None without an embedding of the embedded network.
    """
    from nemo_cosmos.perception.encoders import EfficientNetEncoder, load_encoder

    if embedding is None or embedding.model != EMBEDDED:
        return None
    encoder = load_encoder(EMBEDDED)
    assert isinstance(encoder, EfficientNetEncoder)
    logits_K = encoder.classify(embedding.vector_D.astype(np.float32) * embedding.norm)
    odds_K = np.exp(logits_K - logits_K.max())
    return np.asarray(odds_K / odds_K.sum(), dtype=np.float32)
