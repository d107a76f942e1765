"""Sidecars of controls as tensors of a batch.

A control (``nemo_cosmos.models.diffusion.controls.Control``) says which sidecars it reads and what
it makes of them. It is found by its name among the installed entry points, so that this room knows
no models and a control of your own is loaded like ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol

import numpy as np
import torch

from nemo_cosmos.data.sample import decode_sidecar
from nemo_cosmos.errors import NumericsError, SampleError

ENTRY_POINT_GROUP = "nemo_cosmos.controls"


class ControlReader(Protocol):
    """The part of a control that concerns files."""

    sidecars: tuple[str, ...]
    """Suffixes of the files that it reads."""

    def read(
        self, sidecars: Mapping[str, Any], first_frame: int, num_frames: int
    ) -> Mapping[str, Any]:
        """Arrays by batch key, of the decoded files by suffix."""
        ...


class ArrayReader:
    """A control that is one array, ``{key}.{name}.npy``, and comes into the batch as it is.

    Args:
        name: of the control.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.sidecars: tuple[str, ...] = (f"{name}.npy",)

    def read(
        self, sidecars: Mapping[str, Any], first_frame: int, num_frames: int
    ) -> Mapping[str, Any]:
        """Return the array under the control's name."""
        return {self.name: sidecars[self.sidecars[0]]}


def control_reader(name: str) -> ControlReader:
    """The reader of a control: of the registered one of that name, else of a plain array."""
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            reader: ControlReader = point.load()
            return reader
    return ArrayReader(name)


def read_control(
    reader: ControlReader, contents: Mapping[str, bytes], num_frames: int, where: str
) -> dict[str, torch.Tensor]:
    """The control tensors of one sample, float32.

    Args:
        reader: of the control.
        contents: of the sample's files by suffix.
        num_frames: of the sample, in pixels.
        where: shard and key, for messages.

    Raises:
        SampleError: a sidecar is damaged, or does not fit the frames.
        NumericsError: it holds NaN or infinity.
    """
    decoded = {name: decode_sidecar(name, contents[name], where) for name in reader.sidecars}
    try:
        arrays = reader.read(decoded, 0, num_frames)
    except (SampleError, NumericsError) as error:
        raise type(error)(f"In {where}: {error}") from error
    tensors = {}
    for name, values in arrays.items():
        tensors[name] = torch.from_numpy(np.ascontiguousarray(values, np.float32))
        if not bool(torch.isfinite(tensors[name]).all()):
            raise NumericsError(
                f"The {name} of {where} holds NaN or infinity. Repair the recording, or leave the "
                "clip out."
            )
    return tensors
