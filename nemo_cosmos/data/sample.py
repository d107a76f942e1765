"""One sample of a shard; each of its files is read on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array
from nemo_cosmos.batch import view_suffix
from nemo_cosmos.controls import decode_arrays
from nemo_cosmos.data.loading.latents import TEXT_SUFFIX, unpack_embedding
from nemo_cosmos.data.schema import VIEW_CHECKSUMS, ClipRecord
from nemo_cosmos.data.shards.index import ShardIndex
from nemo_cosmos.data.shards.t5_pickle import parse_t5_pickle
from nemo_cosmos.data.shards.tar import Member
from nemo_cosmos.errors import NumericsError, SampleError

#: Suffix of cosmos-curate's text embeddings.
PICKLE_SUFFIX = "pickle"


def sha256_of(content: bytes) -> str:
    """Checksum in hexadecimal, as kept in :attr:`ClipRecord.sha256`."""
    return hashlib.sha256(content).hexdigest()


class Sample:
    """One sample of a shard.

    Args:
        index: the index of its shard.
        row: its row in the index.
    """

    def __init__(self, index: ShardIndex, row: int) -> None:
        self._index = index
        self._row = row

    @property
    def key(self) -> str:
        """The sample's name."""
        return self._index.keys[self._row]

    @property
    def shard(self) -> str:
        """Path or URL of the sample's shard."""
        return self._index.shard

    @property
    def where(self) -> str:
        """Shard and key, for messages."""
        return f"sample '{self.key}' of '{self.shard}'"

    @cached_property
    def members(self) -> dict[str, Member]:
        """The sample's files by suffix (``mp4``, ``json``, ``action.npy``, ...)."""
        return self._index.members(self._row)

    def read(self, suffix: str) -> bytes:
        """Return the content of one file; raises as :meth:`read_files`."""
        return self.read_files((suffix,))[0]

    def read_files(self, suffixes: Sequence[str]) -> list[bytes]:
        """Return the contents of several files; from a bucket, in one request.

        Raises:
            MissingFileError: the shard is gone, or has been replaced.
            SampleError: the sample has no such file, or the shard was cut off.
        """
        try:
            return self._index.read(self._row, suffixes)
        except KeyError:
            absent = next(suffix for suffix in suffixes if suffix not in self.members)
            raise SampleError(
                f"{self.where} has no '{absent}' (it has: {', '.join(sorted(self.members))}). "
                f"{_REMEDIES.get(absent, 'Write the shard again with it.')}"
            ) from None

    @cached_property
    def record(self) -> ClipRecord:
        """The record that the sample's JSON holds."""
        return ClipRecord.from_json(self.read("json"), self.where)

    def array(self, suffix: str) -> Array:
        """Return an ``.npy`` file as an array; pickled objects are refused."""
        (array,) = decode_arrays(suffix, self.read(suffix), self.where).values()
        return array

    def text_embedding(self) -> NDArray[np.float32]:
        """The embedding ``(L, D)`` of the caption, as we or cosmos-curate stored it.

        Of cosmos-curate's pickle, which has an array for each window, the arrays are joined along
        the tokens, as the captions are in the record. No code in it is run.

        Raises:
            SampleError: there is none, or it is damaged.
            NumericsError: it holds NaN or infinity.
        """
        if TEXT_SUFFIX not in self.members and PICKLE_SUFFIX in self.members:
            where = f"'{PICKLE_SUFFIX}' of {self.where}"
            arrays = parse_t5_pickle(self.read(PICKLE_SUFFIX), where)
            joined = np.concatenate(arrays).astype(np.float32)
            if not np.isfinite(joined).all():
                raise NumericsError(f"{where} holds NaN or infinity. Write the embedding again.")
            return joined
        embedding: NDArray[np.float32] = unpack_embedding(
            self.read(TEXT_SUFFIX), self.where
        ).numpy()
        return embedding

    def verify(self) -> None:
        """Compare the video of each view with its checksum in the JSON.

        Raises:
            SampleError: one is missing, or they differ.
        """
        record = self.record
        expected = {record.views[0]: record.sha256, **(record.extra.get(VIEW_CHECKSUMS) or {})}
        for view in record.views:
            suffix = view_suffix(record.views, view)
            found, wanted = sha256_of(self.read(suffix)), expected.get(view)
            if wanted and found != wanted:
                raise SampleError(
                    f"The {suffix} of {self.where} has sha256 {found}, expected {wanted}. The "
                    "shard is damaged; copy or write it again."
                )


_REMEDIES = {
    "latent.safetensors": "Make latents with 'nemo-cosmos tokenize' and train on its output.",
    "codes.safetensors": "Make codes with 'nemo-cosmos tokenize' and a discrete tokenizer, such as "
    "one of tokenizer_nano_dv4x8x8, and train on its output.",
    "t5.safetensors": "Run 'nemo-cosmos tokenize' with --text-encoder.",
    "action.npy": "Train without action control, or use shards that carry actions.",
    "mp4": "Use curated shards, or run 'nemo-cosmos tokenize' with --keep-video.",
}
