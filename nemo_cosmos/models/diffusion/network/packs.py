"""Packs of samples of different length, size and aspect, as the diffusion network takes them.

Inside the network, samples are one sequence (``models.common.packed``). Outside, a pack is a list
of batches of one, so that the diffusion process treats a sample in a pack as it does any other.

Shape suffixes: N samples of a pack, L tokens of all of them, S modulation rows of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from nemo_cosmos.models.common.packed import Packing
from nemo_cosmos.models.diffusion.network.layers import LayerInputs


def is_pack(batch: Mapping[str, Any]) -> bool:
    """Whether a batch of the data room is a pack (``data.packing.collate_pack``)."""
    return not isinstance(batch.get("latent", torch.Tensor()), torch.Tensor)


def split_pack(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The samples of a pack, each as a batch of one.

    Args:
        batch: of ``data.packing.collate_pack``: tensors with one row, or lists with one entry, a
            sample.
    """
    return [
        {
            name: values[index][None]
            if isinstance(values[index], torch.Tensor)
            else [values[index]]
            for name, values in batch.items()
            if name != "pack"
        }
        for index in range(len(batch["latent"]))
    ]


def pack_conditioning(
    parts: Sequence[LayerInputs], lengths: Sequence[int], num_padding: int = 0
) -> tuple[LayerInputs, Packing]:
    """Lay what the layers see of single samples end to end.

    Args:
        parts: of each sample, B = 1.
        lengths: tokens of each sample.
        num_padding: tokens behind the last sample that belong to none.

    Returns:
        The conditioning of the pack, with as many modulation rows as its samples have together, and
        the samples' boundaries.
    """
    rows, row_lengths = [], []
    for part, length in zip(parts, lengths, strict=True):
        num_rows = max(part.activated_TBE.shape[0], part.shared_TB3E.shape[0])
        rows.append([x.expand(num_rows, -1, -1) for x in (part.activated_TBE, part.shared_TB3E)])
        row_lengths += [length // num_rows] * num_rows
    row_lengths[-1] += num_padding
    device = parts[0].rope_cos_LB1D.device
    contexts = [part.context_MBE for part in parts if part.context_MBE is not None]
    conditioning = LayerInputs(
        activated_TBE=torch.cat([activated for activated, _ in rows]),
        shared_TB3E=torch.cat([shared for _, shared in rows]),
        rope_cos_LB1D=_cat_and_pad([part.rope_cos_LB1D for part in parts], num_padding),
        rope_sin_LB1D=_cat_and_pad([part.rope_sin_LB1D for part in parts], num_padding),
        position_L1E=(
            None
            if parts[0].position_L1E is None
            else _cat_and_pad([part.position_L1E for part in parts], num_padding)
        ),
        context_MBE=torch.cat(contexts),
        row_L=torch.arange(len(row_lengths))
        .repeat_interleave(torch.tensor(row_lengths))
        .to(device),
    )
    packing = Packing.of(lengths, [len(context) for context in contexts], device, num_padding)
    return conditioning, packing


def _cat_and_pad(tables: Sequence[torch.Tensor | None], num_padding: int) -> torch.Tensor:
    """Tables of tokens end to end, zero for the tokens that belong to no sample."""
    whole = torch.cat([table for table in tables if table is not None])
    return F.pad(whole, (0, 0) * (whole.dim() - 1) + (0, num_padding))
