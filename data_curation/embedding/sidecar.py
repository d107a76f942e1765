"""What is kept of a clip for comparing it: ``{key}.embedding.safetensors``.

``embedding`` float16 ``(D,)`` of length one, ``norm`` its length before, ``signature`` uint8
``(T, 16, 16)`` (see :mod:`data_curation.deduplication.perceptual`), and ``model``, the
encoder's name as text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nemo_cosmos.aliases import Array
from nemo_cosmos.errors import SampleError

EMBEDDING_SUFFIX = "embedding.safetensors"


@dataclass(frozen=True, eq=False)
class ClipEmbedding:
    """The sidecar's content.

    Attributes:
        model: name of the encoder.
        vector_D: float16, of length one.
        norm: length of the mean features before.
        signature_TYX: uint8 luma thumbnails over the length of the clip.
    """

    model: str
    vector_D: NDArray[np.float16]
    norm: float
    signature_TYX: NDArray[np.uint8]

    def to_bytes(self) -> bytes:
        """Serialise; the same content always gives the same bytes."""
        arrays: dict[str, Array] = {
            "embedding": self.vector_D.astype(np.float16),
            "norm": np.array([self.norm], dtype=np.float32),
            "signature": np.ascontiguousarray(self.signature_TYX),
            "model": np.frombuffer(self.model.encode(), dtype=np.uint8),
        }
        return bytes(save(arrays))

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> ClipEmbedding:
        """What :meth:`to_bytes` wrote.

        Raises:
            SampleError: it is damaged.
        """
        try:
            arrays = load(content)
            return cls(
                model=arrays["model"].tobytes().decode(),
                vector_D=arrays["embedding"],
                norm=float(arrays["norm"][0]),
                signature_TYX=arrays["signature"],
            )
        except (SafetensorError, KeyError, IndexError, UnicodeDecodeError) as error:
            raise SampleError(
                f"The embedding of {where} cannot be read: {error}. Curate the clip again."
            ) from error
