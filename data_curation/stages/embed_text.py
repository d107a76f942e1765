"""Embed text: what a T5 encoder makes of every caption, as ``t5.safetensors`` beside the clip.

In the shards the embeddings have tars of their own (``t5_xxl``), as cosmos-curate's have; they are
safetensors there, never pickles. A caption that was embedded before is not embedded again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from data_curation.clip import Clip, Resources, Result
from data_curation.stages.base import DatasetStage, Stage, StageSettings, ignore_progress
from data_curation.store import ClipStore
from nemo_cosmos.data.shards.layout import TEXT_SUFFIX
from nemo_cosmos.options import limited, option
from nemo_cosmos.platform import default_device
from nemo_cosmos.storage import atomic_path

if TYPE_CHECKING:
    from nemo_cosmos.models.common.text import TextEncoder

CAPTIONS_PER_CALL = 16


@dataclass(frozen=True)
class EmbedTextSettings(StageSettings):
    """Which encoder.

    Attributes:
        encoder: ``embedded`` (flan-t5-small, 512 channels), a folder with a T5 or its name on the
            hub (``google-t5/t5-11b`` is the reference's); empty embeds no text.
        max_length: tokens; a longer caption is cut, and keeps its end-of-sequence token.
    """

    encoder: str = option(
        "",
        "T5 that embeds captions into the shards: 'embedded', a folder, or a name on the hub.",
        flag="--text-encoder",
    )
    max_length: int = limited(512, least=1, most=65536)

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return EmbedTextStage(self, store)


class EmbedTextStage(DatasetStage):
    """Writes the embedding of each caption; nothing without an encoder."""

    name = "embed_text"
    inputs = ("clip_id", "caption", "suffixes")
    outputs = ("suffixes",)
    resources = Resources(cpus=2.0, memory_gb=2.0)

    def __init__(self, settings: EmbedTextSettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store
        self._marks = store.output / ".work" / "text"
        self._encoder: TextEncoder | None = None

    def prepare(self) -> None:
        """Load the encoder: captioning may take days, after which its path must not be wrong."""
        if self.settings.encoder:
            self._encoder = self._load()

    def process_all(
        self, clips: Sequence[Clip], advance: Callable[[], None] = ignore_progress
    ) -> list[Result]:
        """Embed all captions, each distinct one once."""
        if not self.settings.encoder:
            return list(clips)
        places: dict[str, list[int]] = {}
        for place, clip in enumerate(clips):
            if not self._is_done(clip):
                places.setdefault(clip.caption, []).append(place)
        captions = list(places)
        for start in range(0, len(captions), CAPTIONS_PER_CALL):
            some = captions[start : start + CAPTIONS_PER_CALL]
            for caption, content in zip(some, self._encode(some), strict=True):
                for place in places[caption]:
                    self._put(clips[place], content)
                    advance()
        return [
            replace(clip, suffixes=tuple(dict.fromkeys((*clip.suffixes, TEXT_SUFFIX))))
            for clip in clips
        ]

    def _encode(self, captions: list[str]) -> list[bytes]:
        from nemo_cosmos.data.loading.latents import pack_embedding

        if self._encoder is None:
            self._encoder = self._load()
        embeddings_BLD, mask_BL = self._encoder.encode(captions, truncate=True)
        lengths = mask_BL.sum(dim=1).int().tolist()
        return [
            pack_embedding(embedding_LD[: max(1, length)], f"the caption '{caption[:60]}'")
            for caption, embedding_LD, length in zip(captions, embeddings_BLD, lengths, strict=True)
        ]

    def _load(self) -> TextEncoder:
        from nemo_cosmos.models.common.text import load_text_encoder, text_encoder_spec

        spec = text_encoder_spec(self.settings.encoder, self.settings.max_length)
        return load_text_encoder(spec, default_device())

    def _is_done(self, clip: Clip) -> bool:
        """Whether this very caption was embedded by this encoder, and the result is still there."""
        mark = self._marks / clip.clip_id[:2] / clip.clip_id
        wanted = mark.exists() and mark.read_text(encoding="utf-8") == self._digest(clip)
        return wanted and self._store.has(clip.clip_id, (TEXT_SUFFIX,))

    def _put(self, clip: Clip, content: bytes) -> None:
        self._store.put(clip.clip_id, TEXT_SUFFIX, content)
        with atomic_path(self._marks / clip.clip_id[:2] / clip.clip_id) as temporary:
            temporary.write_text(self._digest(clip), encoding="utf-8")

    def _digest(self, clip: Clip) -> str:
        content = json.dumps([clip.caption, self.settings.encoder, self.settings.max_length])
        return hashlib.sha256(content.encode()).hexdigest()
