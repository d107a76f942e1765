"""Tokenised samples as tensors for the diffusion models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from nemo_cosmos.data.buckets import Bucket, padding_mask
from nemo_cosmos.data.latents import LATENT_SUFFIX, TEXT_SUFFIX, unpack_embedding, unpack_latent
from nemo_cosmos.data.loader import Draw
from nemo_cosmos.data.shards import Sample, read_samples
from nemo_cosmos.errors import NumericsError, SampleError

CONTROL_SUFFIXES = {
    "action": "action.npy",
    "trajectory": "trajectory.npy",
}
"""Sidecars that are one array, by the name under which the batch carries them."""

PADDING_BOX = "content_box"
"""Field of a record with the box (top, left, bottom, right) that is picture, not padding."""


class LatentDataset(Dataset[dict[str, Any]]):
    """Samples of ``nemo-cosmos tokenize``, drawn by :class:`Draw`.

    Args:
        folders: folders of tokenised shards.
        text_length: tokens L that text embeddings are padded to, with zeros.
        controls: sidecars to load, by name (:data:`CONTROL_SUFFIXES`).

    Raises:
        MissingFileError: a folder is not there or holds no shard.
        SampleError: a sample has no latent, no text embedding or no control that was asked for.
    """

    def __init__(
        self,
        folders: Sequence[str | os.PathLike[str]],
        *,
        text_length: int = 512,
        controls: Sequence[str] = (),
    ) -> None:
        self.text_length = text_length
        self.controls = {name: control_suffix(name) for name in controls}
        required = ("json", LATENT_SUFFIX, TEXT_SUFFIX, *self.controls.values())
        self.samples: list[Sample] = [
            sample for folder in folders for sample in read_samples(folder, required)
        ]
        self.buckets = [_bucket(sample) for sample in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        """Return one sample; keys and shapes as in the batch, without the batch dimension."""
        sample = self.samples[draw.index]
        record = sample.record
        latent_CTHW = unpack_latent(sample.read(LATENT_SUFFIX), sample.where)
        embedding_LD = unpack_embedding(sample.read(TEXT_SUFFIX), sample.where)
        text_LD, mask_L = self._pad_text(embedding_LD, sample)
        size = (record.height, record.width)
        mask_1HW = padding_mask(size, record.extra.get(PADDING_BOX))
        return {
            "key": f"{sample.key}@{draw.position}",
            "latent": latent_CTHW,
            "t5_text_embeddings": text_LD,
            "t5_text_mask": mask_L,
            "fps": torch.tensor(record.fps, dtype=torch.float32),
            "num_frames": torch.tensor(record.num_frames, dtype=torch.float32),
            "image_size": torch.tensor([*size, *size], dtype=torch.float32),
            "padding_mask": torch.from_numpy(mask_1HW),
            **{name: self._control(sample, name) for name in self.controls},
        }

    def _pad_text(
        self, embedding_LD: torch.Tensor, sample: Sample
    ) -> tuple[torch.Tensor, torch.Tensor]:
        length, dim = embedding_LD.shape
        if length > self.text_length:
            raise SampleError(
                f"The text embedding of {sample.where} has {length} tokens, but text_length is "
                f"{self.text_length}. Raise text_length to at least {length}, or tokenize again "
                "with shorter captions."
            )
        text_LD = torch.zeros(self.text_length, dim)
        text_LD[:length] = embedding_LD
        mask_L = torch.zeros(self.text_length)
        mask_L[:length] = 1
        return text_LD, mask_L

    def _control(self, sample: Sample, name: str) -> torch.Tensor:
        values = torch.from_numpy(sample.array(self.controls[name])).to(torch.float32)
        if not bool(torch.isfinite(values).all()):
            raise NumericsError(
                f"The {name} of {sample.where} holds NaN or infinity. Repair the recording, or "
                "leave the clip out."
            )
        return values


def control_suffix(name: str) -> str:
    """Suffix of a control's sidecar; a name of your own is the array ``{key}.{name}.npy``."""
    return CONTROL_SUFFIXES.get(name, f"{name}.npy")


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack tensors; gather everything else in lists.

    Raises:
        SampleError: samples of one batch differ in shape.
    """
    batch: dict[str, Any] = {}
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        if not torch.is_tensor(first):
            batch[name] = values
            continue
        shapes = {tuple(value.shape) for value in values}
        if len(shapes) > 1:
            raise SampleError(
                f"'{name}' has the shapes {sorted(shapes)} in one batch (samples "
                f"{[sample.get('key') for sample in samples]}); expected one. The folders were "
                "tokenised by different tokenizers or text encoders; train on one of them."
            )
        batch[name] = torch.stack(values)
    return batch


def _bucket(sample: Sample) -> Bucket:
    record = sample.record
    return Bucket(record.num_frames, record.height, record.width)
