"""The embeddings of a finished run, in one place: ``output/embeddings/``.

::

    vectors.npy       float16 (N, D), of length one
    signatures.npy    uint8 (N, T, 16, 16), luma thumbnails
    clips.jsonl       N lines: key, source, span, size and checksum of each row
    index.json        name of the encoder

What a later run compares its clips with, and what a catalogue searches by.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_curation.clip import Clip
from data_curation.deduplication.vectors import VectorFile, rows_written
from data_curation.embedding.sidecar import EMBEDDING_SUFFIX, ClipEmbedding
from data_curation.store import ClipStore
from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import MissingFileError, SampleError
from nemo_cosmos.storage import atomic_path

INDEX_FOLDER = "embeddings"
_BLOCK_CLIPS = 4096


@dataclass(frozen=True, eq=False)
class EmbeddingIndex:
    """What an earlier run kept; the arrays are mapped and not loaded.

    Attributes:
        model: name of the encoder.
        vectors: vectors of length one.
        signatures_NTYX: thumbnails.
        clips: facts of each row: ``key``, ``source``, ``span_s``, ``content_sha256``, ...
    """

    model: str
    vectors: VectorFile
    signatures_NTYX: NDArray[np.uint8]
    clips: list[JsonObject]

    @classmethod
    def open(cls, output: Path) -> EmbeddingIndex:
        """The index of a run's output folder.

        Raises:
            MissingFileError: it has none.
            SampleError: it is damaged.
        """
        folder = output / INDEX_FOLDER
        if not (folder / "index.json").is_file():
            raise MissingFileError(
                f"'{output}' has no embeddings to compare with ('{folder}' is not there). Name "
                "the output folder of a run of 'nemo-cosmos curate' that embedded its clips."
            )
        try:
            model = str(json.loads((folder / "index.json").read_text(encoding="utf-8"))["model"])
            lines = (folder / "clips.jsonl").read_text(encoding="utf-8").splitlines()
            clips = [json.loads(line) for line in lines]
            signatures = np.load(folder / "signatures.npy", mmap_mode="r", allow_pickle=False)
            index = cls(model, VectorFile(folder / "vectors.npy"), signatures, clips)
        except (ValueError, KeyError, OSError) as error:
            raise SampleError(
                f"The embeddings in '{folder}' cannot be read: {error}. Run the command that "
                "wrote them again."
            ) from error
        if not len(index.vectors) == len(signatures) == len(clips):
            raise SampleError(
                f"'{folder}' holds {len(index.vectors)} vectors, {len(signatures)} signatures and "
                f"{len(clips)} clips; expected as many of each. Run the command that wrote them "
                "again."
            )
        return index


def read_embedding(clip: Clip, store: ClipStore) -> ClipEmbedding:
    """The sidecar that the stage *embed* wrote."""
    content = store.get(clip.clip_id, EMBEDDING_SUFFIX)
    return ClipEmbedding.from_bytes(content, f"clip '{clip.clip_id}' of '{clip.name}'")


def read_blocks(clips: Sequence[Clip], store: ClipStore) -> Iterator[list[ClipEmbedding]]:
    """The sidecars of many clips, some thousands at a time."""
    for start in range(0, len(clips), _BLOCK_CLIPS):
        yield [read_embedding(clip, store) for clip in clips[start : start + _BLOCK_CLIPS]]


def write_index(clips: Sequence[Clip], store: ClipStore, output: Path) -> None:
    """Write the index of the clips that were kept; nothing where they are not embedded."""
    if not clips or any(EMBEDDING_SUFFIX not in clip.suffixes for clip in clips):
        return
    first = read_embedding(clips[0], store)
    count, dim = len(clips), len(first.vector_D)
    with atomic_path(output / INDEX_FOLDER) as folder:
        folder.mkdir()
        with (
            rows_written(folder / "vectors.npy", (count, dim), "<f2") as write_vectors,
            rows_written(
                folder / "signatures.npy", (count, *first.signature_TYX.shape), "|u1"
            ) as write_signatures,
        ):
            for block in read_blocks(clips, store):
                write_vectors(np.stack([item.vector_D for item in block]))
                write_signatures(np.stack([item.signature_TYX for item in block]))
        lines = [json.dumps(_facts(clip), ensure_ascii=True) for clip in clips]
        (folder / "clips.jsonl").write_text(
            "".join(f"{line}\n" for line in lines), encoding="utf-8"
        )
        (folder / "index.json").write_text(
            json.dumps({"model": first.model}) + "\n", encoding="utf-8"
        )


def _facts(clip: Clip) -> dict[str, object]:
    return {
        "key": clip.clip_id,
        "source": clip.name,
        "span_s": list(clip.span_s),
        "width": clip.width,
        "height": clip.height,
        "num_frames": clip.num_frames,
        "fps": clip.fps,
        "content_sha256": clip.content_sha256,
    }
