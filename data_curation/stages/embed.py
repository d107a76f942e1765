"""Embed: one vector and a few thumbnails for each clip, to compare, search and sort by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.deduplication.perceptual import clip_signature
from data_curation.embedding.sidecar import EMBEDDING_SUFFIX, ClipEmbedding
from data_curation.stages.base import BatchStage, Stage, StageSettings
from data_curation.store import ClipStore
from nemo_cosmos.errors import ConfigError, VideoError
from nemo_cosmos.options import option
from nemo_cosmos.perception import EMBEDDED
from nemo_cosmos.video import decode


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
    num_frames: int = option(8, "Frames that are looked at, evenly over the clip.")

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ConfigError(f"{self.num_frames} frames cannot be embedded; expected 1 or more.")

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return EmbedStage(self, store)


class EmbedStage(BatchStage):
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
        from nemo_cosmos.perception.encoders import load_encoder  # brings torch: not for --help

        load_encoder(self.settings.model)

    def process_batch(self, clips: Sequence[Clip]) -> list[Result]:
        """Embed some clips of one source with as few calls of the network as suit the device."""
        from nemo_cosmos.perception.encoders import load_encoder, pool

        encoder = load_encoder(self.settings.model)
        looks = [self._look(clip, encoder.image_size) for clip in clips]
        frames = [look for look in looks if not isinstance(look, Rejection)]
        features = iter(encoder.encode(np.concatenate(frames))) if frames else iter(())
        results: list[Result] = []
        for clip, look in zip(clips, looks, strict=True):
            if isinstance(look, Rejection):
                results.append(look)
                continue
            features_TD = np.stack([next(features) for _ in look])
            vector_D, norm = pool(features_TD, f"'{clip.name}'")
            embedding = ClipEmbedding(
                encoder.name, vector_D.astype(np.float16), norm, clip_signature(look)
            )
            self._store.put(clip.clip_id, EMBEDDING_SUFFIX, embedding.to_bytes())
            suffixes = dict.fromkeys((*clip.suffixes, EMBEDDING_SUFFIX))
            results.append(replace(clip, suffixes=tuple(suffixes)))
        return results

    def _look(self, clip: Clip, size: tuple[int, int]) -> NDArray[np.uint8] | Rejection:
        """The frames of a clip that are embedded."""
        numbers = spread(clip.num_frames, self.settings.num_frames)
        content = self._store.get(clip.clip_id, "mp4")
        try:
            return decode(content, frame_indices=numbers, size=size).frames_THWC
        except VideoError as error:
            return Rejection.of(clip, self.name, "decode_failure", str(error))


def spread(num_frames: int, count: int) -> np.ndarray:
    """Numbers of ``count`` frames in the middles of equal parts of a clip."""
    return np.asarray((np.arange(count) + 0.5) * num_frames / count, dtype=np.int64)
