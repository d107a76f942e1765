"""What checkpoints and exports hold, and whether two of them are the same, for tests of layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nemo_cosmos.checkpoint.formats.nemo import NemoBoxes
from nemo_cosmos.checkpoint.formats.safetensors import SafetensorsSource

TOLERANCE = 1e-3
"""Sums over ranks round differently in every layout."""


def saved_tensors(checkpoint: Path) -> dict[str, Tensor]:
    """What a distributed checkpoint holds but for the generators, which are of processes."""
    boxes = NemoBoxes(checkpoint)
    return {
        key: boxes.read_box(key, ((0,) * len(entry.size), tuple(entry.size)))
        for key, entry in boxes.tensors.items()
        if not key.startswith("random_state.")
    }


def stored_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file."""
    source = SafetensorsSource(file)
    return {name: source.read(name) for name in source.specs}


def check_close(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """Require tensors to be the same but for the rounding of sums over ranks.

    Args:
        found: tensors by name.
        wanted: tensors of the run that they are compared with.
        what: name of the comparison, for the message.

    Raises:
        AssertionError: a name or a tensor differs.
    """
    assert found.keys() == wanted.keys(), what
    for name, tensor in wanted.items():
        error = torch.linalg.vector_norm(found[name].double() - tensor.double())
        size = torch.linalg.vector_norm(tensor.double())
        assert error <= TOLERANCE * size, f"{what}: {name} differs by {error / size:.1e}"
