"""Tokenised samples as tensors for the world models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from nemo_cosmos.batch import SampleFacts, Views
from nemo_cosmos.controls import ControlSpec, controls_of
from nemo_cosmos.data.controls import read_control
from nemo_cosmos.data.loading.buckets import ANY_SHAPE, Bucket, padding_mask
from nemo_cosmos.data.loading.corpus import Corpus
from nemo_cosmos.data.loading.latents import (
    CODES_SUFFIX,
    LATENT_SUFFIX,
    TEXT_SUFFIX,
    unpack_codes,
    unpack_embedding,
    unpack_latent,
)
from nemo_cosmos.data.loading.loader import SampleDraw, ShardDataset
from nemo_cosmos.data.sample import Sample
from nemo_cosmos.data.schema import PADDING_BOX, ClipRecord
from nemo_cosmos.data.shards.bad_shards import BadShards
from nemo_cosmos.errors import ConfigError


class LatentDataset(ShardDataset):
    """Samples of ``nemo-cosmos tokenize``.

    Args:
        folders: folders of tokenised shards.
        text_length: tokens L that text embeddings are padded to, with zeros.
        controls: names of the registered controls whose signals to load, or how a model has them,
            which says how wide they are.
        codes: whether to read the codes of a discrete tokenizer instead of latents.
        packed: whether to put samples of all shapes into one bucket.
        bad: counts shards that cannot be read.
        excluded: names of shards to leave out; see :class:`Corpus`.
        seed: seed of the choice of samples that replace damaged ones.

    Raises:
        MissingFileError: a folder does not exist or holds no shard.
        SampleError: a sample lacks a latent, a text embedding or a signal.
    """

    def __init__(
        self,
        folders: Sequence[str | os.PathLike[str]],
        *,
        text_length: int = 512,
        controls: Sequence[str | ControlSpec] = (),
        codes: bool = False,
        packed: bool = False,
        bad: BadShards | None = None,
        excluded: Iterable[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.text_length = text_length
        self.controls = controls_of(
            ControlSpec(one) if isinstance(one, str) else one for one in controls
        )
        sidecars = [signal.suffix for control in self.controls for signal in control.signals]
        self.codes = codes
        content = CODES_SUFFIX if codes else LATENT_SUFFIX
        self.suffixes = ("json", content, TEXT_SUFFIX, *sidecars)
        corpus = Corpus(
            folders,
            required=self.suffixes,
            buckets_of=_one_bucket if packed else _own_bucket,
            bad=bad or BadShards(),
            excluded=excluded,
        )
        super().__init__(corpus, seed)

    def decode(self, sample: Sample, draw: SampleDraw) -> dict[str, Any]:
        """Return one sample; keys and shapes as in the batch, without the batch dimension."""
        where = sample.where
        files = dict(zip(self.suffixes, sample.read_files(self.suffixes), strict=True))
        record = ClipRecord.from_json(files["json"], where)
        text_LD, mask_L = self._pad_text(unpack_embedding(files[TEXT_SUFFIX], where), where)
        size = (record.height, record.width)
        mask_1HW = padding_mask(size, record.extra.get(PADDING_BOX))
        item: SampleFacts = {
            "key": f"{sample.key}@{draw.position}",
            "views": record.views,
            "t5_text_embeddings": text_LD,
            "t5_text_mask": mask_L,
            "fps": torch.tensor(record.fps, dtype=torch.float32),
            "num_frames": torch.tensor(record.num_frames, dtype=torch.float32),
            "image_size": torch.tensor([*size, *size], dtype=torch.float32),
            "padding_mask": torch.from_numpy(mask_1HW),
        }
        signals: dict[str, torch.Tensor] = {}
        for control in self.controls:
            signals |= read_control(control, files, record.num_frames, where, record.extra)
        return {**item, **self._content(files, where), **signals}

    def _content(self, files: Mapping[str, bytes], where: str) -> dict[str, Any]:
        if self.codes:
            return {"codes": unpack_codes(files[CODES_SUFFIX], where).long()}
        # Reading raises what a training step would otherwise have to look for.
        return {"latent": unpack_latent(files[LATENT_SUFFIX], where), "is_finite": True}

    def _pad_text(
        self, embedding_LD: torch.Tensor, where: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        length, dim = embedding_LD.shape
        if length > self.text_length:
            raise ConfigError(
                f"The text embedding of {where} has {length} tokens, but text_length is "
                f"{self.text_length}. Raise text_length to at least {length}, or tokenize again "
                "with shorter captions."
            )
        text_LD = torch.zeros(self.text_length, dim)
        text_LD[:length] = embedding_LD
        mask_L = torch.zeros(self.text_length)
        mask_L[:length] = 1
        return text_LD, mask_L


def _own_bucket(num_frames: int, height: int, width: int, views: Views) -> tuple[Bucket]:
    """Samples that were tokenised alike share a batch."""
    return (Bucket(num_frames, height, width, views),)


def _one_bucket(num_frames: int, height: int, width: int, views: Views) -> tuple[Bucket]:
    """A pack takes samples of any shape."""
    return (ANY_SHAPE,)
