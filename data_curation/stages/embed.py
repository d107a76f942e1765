"""Embed: one vector and a few thumbnails for each clip, to compare, search and sort by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.deduplication.perceptual import clip_signature
from data_curation.embedding.sidecar import EMBEDDING_SUFFIX, ClipEmbedding
from data_curation.frames import Numbers, spread
from data_curation.stages.base import BatchStage, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.errors import VideoError
from nemo_cosmos.options import option
from nemo_cosmos.perception import EMBEDDED
from nemo_cosmos.video.frames import FramesTHWC

if TYPE_CHECKING:
    from nemo_cosmos.perception.encoders import FrameEncoder


@dataclass(frozen=True)
class EmbedSettings(StageSettings):
    """What clips are embedded with.

    Attributes:
        model: ``efficientnet-lite0``, or a folder with a vision model of ``transformers``.
        num_frames: frames that are looked at, evenly over the clip.
    """

    optional = True

    model: str = option(
        EMBEDDED,
        "'efficientnet-lite0', or a folder with a CLIP or other vision model.",
        flag="--embedder",
    )
    num_frames: int = option(
        8, "Frames that are looked at, evenly over the clip.", least=1, most=1000
    )

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return EmbedStage(self, store)


class EmbedStage(BatchStage[FramesTHWC]):
    """Writes ``embedding.safetensors`` beside every clip."""

    name = "embed"
    inputs = ("suffixes", "num_frames")
    outputs = ("suffixes",)
    resources = Resources(cpus=1.0, memory_gb=1.0).with_gpu()
    version = 2

    def __init__(self, settings: EmbedSettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store

    def prepare(self) -> None:
        """Load the model."""
        _ = self._encoder

    def looks_at(self, clip: Clip) -> Numbers:
        """Frames spread evenly over the clip."""
        return spread(clip.num_frames, self.settings.num_frames)

    def look(self, clip: Clip) -> FramesTHWC | Rejection:
        """The frames of a clip, in the size that the network takes."""
        try:
            with self._store.open(clip.clip_id) as opened:
                return opened.read(self.looks_at(clip), self._encoder.image_size)
        except VideoError as error:
            return Rejection.of(clip, self.name, "decode_failure", str(error))

    def process_batch(self, clips: Sequence[Clip], looks: Sequence[FramesTHWC]) -> list[Result]:
        """Embed some clips of one source with as few calls of the network as suit the device."""
        from nemo_cosmos.perception.encoders import pool

        encoder = self._encoder
        features = iter(encoder.encode(np.concatenate(looks)))
        results: list[Result] = []
        for clip, look_THWC in zip(clips, looks, strict=True):
            features_TD = np.stack([next(features) for _ in look_THWC])
            vector_D, norm = pool(features_TD, f"'{clip.name}'")
            embedding = ClipEmbedding(
                encoder.name, vector_D.astype(np.float16), norm, clip_signature(look_THWC)
            )
            self._store.put(clip.clip_id, EMBEDDING_SUFFIX, embedding.to_bytes())
            suffixes = dict.fromkeys((*clip.suffixes, EMBEDDING_SUFFIX))
            results.append(replace(clip, suffixes=tuple(suffixes)))
        return results

    @property
    def _encoder(self) -> FrameEncoder:
        from nemo_cosmos.perception.encoders import load_encoder  # brings torch: not for --help

        return load_encoder(self.settings.model)
