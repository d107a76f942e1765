"""Search a version by similarity: the clips whose embeddings point most nearly the same way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_curation.catalogue.catalogue import Catalogue
from data_curation.catalogue.documents import Document
from data_curation.deduplication.index import EmbeddingIndex
from nemo_cosmos.errors import ConfigError

_BLOCK_ROWS = 65_536


def similar_clips(
    catalogue: Catalogue, dataset: Document, key: str, limit: int = 50
) -> Iterator[Document]:
    """The clips of a version that look most like one of them.

    Embeddings have length one, so that their product is the cosine of the angle between them.

    Args:
        catalogue: holds the version.
        dataset: the version; its folder keeps the embeddings that *curate* wrote.
        key: key of the clip to compare with.
        limit: the largest number of results.

    Yields:
        clips as :meth:`Catalogue.clips` gives them with ``similarity`` in [-1, 1], the most
        similar first; the clip itself is left out.

    Raises:
        MissingFileError: the version was curated without embeddings, or its folder is gone.
        ConfigError: the version has no such clip.
    """
    index = EmbeddingIndex.open(Path(dataset["output"]))
    rows = {str(clip["key"]): row for row, clip in enumerate(index.clips)}
    if key not in rows:
        raise ConfigError(
            f"'{dataset['name']}@{dataset['version']}' has no embedded clip '{key}'. "
            "'nemo-cosmos dataset query' lists keys."
        )
    count = len(index.vectors)
    wanted_D = index.vectors.read(slice(rows[key], rows[key] + 1))[0]
    similarity_N = np.concatenate(
        [
            index.vectors.read(slice(start, start + _BLOCK_ROWS)) @ wanted_D
            for start in range(0, count, _BLOCK_ROWS)
        ]
    )
    # Stable, so that equals come in order of key whatever the number of rows in a block.
    order = np.argsort(-similarity_N, kind="stable")
    found = {str(clip["key"]): clip for clip in catalogue.clips(dataset)}
    keys = [str(index.clips[row]["key"]) for row in order]
    chosen = [
        (each, float(similarity_N[row]))
        for each, row in zip(keys, order, strict=True)
        if each != key and each in found
    ]
    for each, value in chosen[:limit]:
        yield {**found[each], "similarity": round(value, 4)}
