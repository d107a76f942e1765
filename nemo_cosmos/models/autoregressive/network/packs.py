"""Packs of videos of different length and size, as the autoregressive network takes them.

The videos lie end to end in one sequence (``models.common.packed``); a token sees those before it
in its own video, and its own video's text. Positions, and what controls add, are those that each
video has alone.

Shape suffixes: L tokens of all videos of a pack, T their latent frames, B batch (here 1), M text
tokens, C channels of the text, E model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from nemo_cosmos.batch import CodesBatch
from nemo_cosmos.models.autoregressive.network.places import Places
from nemo_cosmos.models.autoregressive.network.transformer import TokenInput
from nemo_cosmos.models.common.megatron.sequence_parallel import SequenceParallel
from nemo_cosmos.models.common.packed import Packing, end_to_end, split_samples
from nemo_cosmos.models.common.rope import RopeTable


def is_pack(batch: CodesBatch) -> bool:
    """Whether a batch holds videos of different shapes, as lists."""
    return not isinstance(batch.get("codes", torch.Tensor()), Tensor)


def samples_of(batch: CodesBatch) -> list[CodesBatch]:
    """The videos of a pack, each as a batch of one; a batch of one shape as it is."""
    if not is_pack(batch):
        return [batch]
    return cast("list[CodesBatch]", split_samples(batch, "codes"))


def pack_inputs(videos: Sequence[TokenInput], sequence: SequenceParallel) -> TokenInput:
    """Lay what the network sees of single videos end to end.

    Args:
        videos: the input of each, a batch of one with its text, not its keys and values.
        sequence: over which ranks the tokens have to divide; tokens that belong to no video are
            appended until they do.
    """
    lengths = [video.tokens_BL.shape[1] for video in videos]
    num_padding = sequence.num_padding(sum(lengths))
    texts: list[Any] = [video.text for video in videos]
    has_text = texts[0] is not None
    tokens_BL = torch.cat([video.tokens_BL for video in videos], dim=1)
    return TokenInput(
        F.pad(tokens_BL, (0, num_padding)),
        _places(videos, num_padding),
        torch.cat(texts, dim=1) if has_text else None,
        frame_BTE=_frames(videos),
        packing=Packing.of(
            lengths,
            # Without a text nothing attends to one.
            [text.shape[1] for text in texts] if has_text else lengths,
            tokens_BL.device,
            num_padding,
        ),
    )


def _places(videos: Sequence[TokenInput], num_padding: int) -> Places:
    """The places of all tokens; latent frames are counted on from video to video."""
    places = [video.places for video in videos]
    counts = [0 if video.frame_BTE is None else video.frame_BTE.shape[1] for video in videos]
    before = [sum(counts[:index]) for index in range(len(videos))]
    next_frames = [one.next_frame_LB + first for one, first in zip(places, before, strict=True)]
    positions = [one.position_LBE for one in places]
    return Places(
        RopeTable(
            end_to_end([one.rope.cos_LB1D for one in places], num_padding),
            end_to_end([one.rope.sin_LB1D for one in places], num_padding),
        ),
        end_to_end(next_frames, num_padding),
        None if positions[0] is None else end_to_end(positions, num_padding),
    )


def _frames(videos: Sequence[TokenInput]) -> Tensor | None:
    frames = [video.frame_BTE for video in videos if video.frame_BTE is not None]
    return torch.cat(frames, dim=1) if frames else None
