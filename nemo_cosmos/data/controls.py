"""Signals of controls as tensors of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nemo_cosmos.controls import Control, decode_arrays


def read_control(
    control: Control,
    contents: Mapping[str, bytes],
    num_frames: int,
    where: str,
    record: Mapping[str, Any] | None = None,
) -> dict[str, torch.Tensor]:
    """Return the signals of one control for one sample, float32, by batch key.

    Args:
        control: the control, which says what it reads.
        contents: the sample's files by suffix.
        num_frames: the sample's pixel frames.
        where: shard and key, for messages.
        record: the sample's JSON.

    Raises:
        SampleError: a sidecar is damaged, or does not fit the frames.
        NumericsError: it holds NaN, infinity or implausible magnitudes.
    """
    tensors: dict[str, torch.Tensor] = {}
    for signal in control.signals:
        stored = decode_arrays(signal.suffix, contents[signal.suffix], where)
        values = signal.completed(stored, record or {}, where)
        signal.check(values, num_frames, where)
        arrays = signal.batch(values, 0, num_frames)
        tensors |= {key: torch.from_numpy(array) for key, array in arrays.items()}
    return tensors
