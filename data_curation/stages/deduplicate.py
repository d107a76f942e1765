"""Deduplicate: of clips that show the same, the best one is kept.

Three sieves, finer to coarser: equal frames (by checksum; the first one is kept), the same pictures
encoded, scaled or graded again (perceptual hash), and nearly the same content (embeddings). Of a
group the largest picture is kept, then the longest clip, then the first in order of name. Clips of
earlier runs that are named in the settings are always kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_curation.clip import Clip, Rejection, Resources, Result
from data_curation.deduplication import KEPT
from data_curation.deduplication.index import EmbeddingIndex, read_blocks, read_embedding
from data_curation.deduplication.perceptual import perceptual_pairs
from data_curation.deduplication.vectors import VectorFile, write_vectors
from data_curation.embedding.sidecar import EMBEDDING_SUFFIX
from data_curation.stages.base import DatasetStage, Stage, StageSettings, ignore_progress
from data_curation.store import ClipStore
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.options import option

#: Least cosine of semantic duplicates; see docs/curation.md for how it was chosen.
MIN_COSINE = 0.97


@dataclass(frozen=True)
class DeduplicateSettings(StageSettings):
    """What counts as the same.

    Attributes:
        min_cosine: least cosine of the embeddings of semantic duplicates; 1 leaves this sieve out.
        known: output folders of earlier runs, whose clips are not taken again.
    """

    min_cosine: float = option(
        MIN_COSINE,
        "Clips this similar are semantic duplicates; 1 keeps them.",
        flag="--min-cosine",
        above=0,
        most=1,
    )
    known: tuple[str, ...] = option(
        (), "Output of an earlier run, whose clips are not taken again; repeatable.", flag="--known"
    )

    def build(self, store: ClipStore) -> Stage:
        """The stage with these settings."""
        return DeduplicateStage(self, store)


class DeduplicateStage(DatasetStage):
    """Rejects what another clip shows better, with the name of that one."""

    name = "deduplicate"
    inputs = ("content_sha256", "clip_id", "suffixes", "width", "height", "num_frames")
    resources = Resources(cpus=2.0, memory_gb=2.0)

    def __init__(self, settings: DeduplicateSettings, store: ClipStore) -> None:
        self.settings = settings
        self._store = store
        self._known: list[EmbeddingIndex] = []

    def prepare(self) -> None:
        """Open the embeddings of the earlier runs."""
        self._known = [EmbeddingIndex.open(Path(folder)) for folder in self.settings.known]

    def process_all(
        self, clips: Sequence[Clip], advance: Callable[[], None] = ignore_progress
    ) -> list[Result]:
        """Compare all clips; no result is known before the last comparison."""
        results: dict[int, Result] = dict(enumerate(clips))
        rest = self._exact(clips, results)
        if all(EMBEDDING_SUFFIX in clips[row].suffixes for row in rest):
            rest = self._perceptual(clips, rest, results)
            if self.settings.min_cosine < 1:
                self._semantic(clips, rest, results)
        return [results[row] for row in range(len(clips))]

    def _exact(self, clips: Sequence[Clip], results: dict[int, Result]) -> list[int]:
        first = {
            facts["content_sha256"]: _where(facts["source"], facts["span_s"], True)
            for index in self._known
            for facts in index.clips
        }
        rest = []
        for row, clip in enumerate(clips):
            if clip.content_sha256 in first:
                detail = f"the same frames as {first[clip.content_sha256]}"
                results[row] = Rejection.of(clip, self.name, "duplicate", detail)
            else:
                first[clip.content_sha256] = _where(clip.name, clip.span_s)
                rest.append(row)
        return rest

    def _perceptual(
        self, clips: Sequence[Clip], rest: list[int], results: dict[int, Result]
    ) -> list[int]:
        chosen = [clips[row] for row in rest]
        signatures = self._signatures(chosen)
        duplicate_of = best_of_pairs(
            perceptual_pairs(signatures), self._ranks(chosen), self._num_known
        )
        for place, clip in enumerate(chosen):
            better = int(duplicate_of[self._num_known + place])
            if better != KEPT:
                detail = f"looks the same as {self._name(better, chosen)}"
                results[rest[place]] = Rejection.of(clip, self.name, "near_duplicate", detail)
        return [row for row in rest if isinstance(results[row], Clip)]

    def _semantic(self, clips: Sequence[Clip], rest: list[int], results: dict[int, Result]) -> None:
        from data_curation.deduplication.semantic import semantic_duplicates  # brings torch

        chosen = [clips[row] for row in rest]
        if not chosen:
            return
        dim = len(read_embedding(chosen[0], self._store).vector_D)
        count = self._num_known + len(chosen)
        folder = self._store.output / ".work" / "deduplicate"
        write_vectors(folder / "vectors.npy", self._vectors(chosen), count, dim)
        with VectorFile(folder / "vectors.npy") as vectors:
            duplicate_of, cosine = semantic_duplicates(
                vectors, self._ranks(chosen), self.settings.min_cosine, self._num_known
            )
        shutil.rmtree(folder)
        for place, clip in enumerate(chosen):
            row = self._num_known + place
            if duplicate_of[row] != KEPT:
                better = self._name(int(duplicate_of[row]), chosen)
                detail = f"shows nearly the same as {better} (cosine {cosine[row]:.3f})"
                results[rest[place]] = Rejection.of(clip, self.name, "semantic_duplicate", detail)

    @property
    def _num_known(self) -> int:
        return sum(len(index.clips) for index in self._known)

    def _signatures(self, clips: Sequence[Clip]) -> NDArray[np.uint8]:
        blocks = [index.signatures_NTYX for index in self._known]
        for block in read_blocks(clips, self._store):
            blocks.append(np.stack([item.signature_TYX for item in block]))
            self._check_model(block[0].model, block[0].signature_TYX.shape)
        return np.concatenate(blocks) if blocks else np.empty((0, 1, 1, 1), dtype=np.uint8)

    def _vectors(self, clips: Sequence[Clip]) -> Iterator[NDArray[np.float16]]:
        for index in self._known:
            for start in range(0, len(index.vectors), 4096):
                yield index.vectors.read(slice(start, start + 4096)).astype(np.float16)
        for block in read_blocks(clips, self._store):
            yield np.stack([item.vector_D for item in block])

    def _check_model(self, model: str, shape: tuple[int, ...]) -> None:
        for index, folder in zip(self._known, self.settings.known, strict=True):
            if index.model != model or index.signatures_NTYX.shape[1:] != shape:
                raise ConfigError(
                    f"The clips of '{folder}' were embedded with '{index.model}' "
                    f"({index.signatures_NTYX.shape[1]} frames), these with '{model}' ({shape[0]} "
                    "frames); vectors of different models cannot be compared. Use the same "
                    "--embedder, or curate the earlier videos again."
                )

    def _ranks(self, clips: Sequence[Clip]) -> NDArray[np.int64]:
        """Order of quality; known clips come first."""
        quality = [(-clip.width * clip.height, -clip.num_frames) for clip in clips]
        order = sorted(range(len(clips)), key=lambda place: (quality[place], place))
        ranks = np.arange(self._num_known + len(clips))
        ranks[self._num_known + np.asarray(order, dtype=np.int64)] = ranks[self._num_known :]
        return ranks

    def _name(self, row: int, clips: Sequence[Clip]) -> str:
        for index in self._known:
            if row < len(index.clips):
                return _where(index.clips[row]["source"], index.clips[row]["span_s"], True)
            row -= len(index.clips)
        return _where(clips[row].name, clips[row].span_s)


def best_of_pairs(
    pair_P2: NDArray[np.int64], rank_N: NDArray[np.int64], num_known: int
) -> NDArray[np.int64]:
    """For each row the best one of its group, or KEPT where it is the best itself.

    A group is all that pairs link, over any number of steps: of clips with equal hashes not every
    pair is looked at.

    Args:
        pair_P2: pairs of similar rows.
        rank_N: rank of each row by quality, 0 the best.
        num_known: number of leading rows that are kept in any case.
    """
    best = list(range(len(rank_N)))

    def find(row: int) -> int:
        while best[row] != row:
            best[row] = best[best[row]]
            row = best[row]
        return row

    for first, second in pair_P2.tolist():
        one, other = find(first), find(second)
        if rank_N[one] > rank_N[other]:
            one, other = other, one
        best[other] = one
    duplicate_of = np.full(len(rank_N), KEPT, dtype=np.int64)
    for row in np.unique(pair_P2).tolist():
        if row >= num_known and find(row) != row:
            duplicate_of[row] = find(row)
    return duplicate_of


def _where(source: str, span_s: Sequence[float], known: bool = False) -> str:
    earlier = " of an earlier run" if known else ""
    return f"'{source}' at {span_s[0]:.2f} s{earlier}"
