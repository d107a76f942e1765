"""What data modules and models agree on: neither knows the other, both know this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class DataSpec:
    """What a data module knows of all its batches before the first one is read.

    Attributes:
        latents_thw: latent frames, rows and columns of all batches; samples of packs, which may
            have any shape, are left out.
        num_text_tokens: tokens of a text embedding.
        packed: whether training batches are packs.
        folders: all folders of tokenised data; the ``dataset.json`` of each names tokenizer and
            text encoder. Training data come first.
    """

    latents_thw: tuple[tuple[int, int, int], ...] = ()
    num_text_tokens: int = 0
    packed: bool = False
    folders: tuple[str, ...] = ()


@runtime_checkable
class SpecifiedData(Protocol):
    """A data module that says what its batches are."""

    def data_spec(self) -> DataSpec:
        """Return what is known of all batches."""
        ...


def spec_of(data: object) -> DataSpec:
    """Return what a data module says of its batches; nothing where it does not say."""
    return data.data_spec() if isinstance(data, SpecifiedData) else DataSpec()
