"""Stand-ins for encoders, and a short way to tokenise with them."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.data.tokenize.config import TokenizeConfig
from nemo_cosmos.data.tokenize.run import tokenize_shards

CONFIG = TokenizeConfig(window_frames=9, window_stride=8, size=(32, 48), batch_size=4)


class Encoders:
    """Stand-ins that count their calls: the latent is the mean red of each corner of the video."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.texts: list[str] = []

    def encode(self, video_BCTHW):
        self.batches.append(tuple(video_BCTHW.shape))
        small = torch.nn.functional.adaptive_avg_pool3d(video_BCTHW, (2, 4, 6))
        return small.repeat(1, 6, 1, 1, 1)[:, :16]

    def encode_text(self, texts):
        self.texts += texts
        embeddings = torch.zeros(len(texts), 10, 8)
        mask = torch.zeros(len(texts), 10)
        for row, text in enumerate(texts):
            length = len(text.split())
            embeddings[row, :length] = float(len(text))
            mask[row, :length] = 1
        return embeddings, mask


@pytest.fixture
def encoders():
    return Encoders()


def run(shards, out, encoders, config=CONFIG, **options):
    return tokenize_shards(
        shards,
        out,
        encode=encoders.encode,
        encode_text=encoders.encode_text,
        config=config,
        **options,
    )
