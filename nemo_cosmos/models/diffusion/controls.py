"""Controls: signals such as actions, camera poses or trajectories that steer a world model.

A control says in one place which sidecars of a sample it reads, which tensors it makes of them, how
it embeds those, and where the embedding enters the network. A new one is one file: subclass
:class:`Control` and register it under the entry point group ``nemo_cosmos.controls``::

    [project.entry-points."nemo_cosmos.controls"]
    action = "post_training.robotics.action:ActionControl"
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import entry_points
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding

__all__ = [
    "ENTRY_POINT_GROUP",
    "Control",
    "ControlEmbedding",
    "NetworkDims",
    "available_controls",
    "build_control",
    "control_class",
    "mask_embedding",
]

ENTRY_POINT_GROUP = "nemo_cosmos.controls"


@dataclass(frozen=True)
class NetworkDims:
    """What a control may need to know of the network and the tokenizer.

    Attributes:
        hidden_size: D, the width of the network.
        context_size: channels of the cross-attention context.
        temporal_factor: pixel frames a latent frame, but for the first.
        spatial_factor: pixels a latent row or column.
    """

    hidden_size: int
    context_size: int
    temporal_factor: int
    spatial_factor: int


class Control(nn.Module, ABC):
    """Base of all controls. Its parameters are trained and saved with the network.

    Make the last layer of an embedding zero at first, so that post-training starts exactly from the
    model that was pre-trained without the control.

    Attributes:
        sidecars: extensions of the sample's files that are read, such as ``("action.npy",)``.
        level_each_frame: whether it adds to the noise level's embedding a value for each latent
            frame, not one for the video.
        num_latent_channels: channels that it adds to the network's input.
    """

    sidecars: ClassVar[tuple[str, ...]]
    level_each_frame: ClassVar[bool] = False
    num_latent_channels: int = 0

    @classmethod
    @abstractmethod
    def build(cls, dims: NetworkDims, **options: Any) -> Self:
        """Make the control for a network; ``options`` come from the model's configuration."""

    @classmethod
    @abstractmethod
    def read(
        cls, sidecars: Mapping[str, Any], first_frame: int, num_frames: int
    ) -> dict[str, np.ndarray]:
        """Cut the window of a sample out of its sidecars.

        Args:
            sidecars: the decoded files by extension, each for the whole clip.
            first_frame: first pixel frame of the window.
            num_frames: pixel frames of the window.

        Returns:
            The arrays of one sample by batch key; stacking them makes the batch.

        Raises:
            SampleError: a sidecar is missing, too short or of another shape.
        """

    @abstractmethod
    def forward(
        self, batch: Mapping[str, Tensor], latent_shape_BCTHW: tuple[int, ...]
    ) -> ControlEmbedding:
        """Embed the batch's control tensors for latents of the given shape."""


def mask_embedding(embedding: ControlEmbedding, keep_B: Tensor) -> ControlEmbedding:
    """Return the embedding with zeros for the samples whose ``keep_B`` is 0."""

    def mask(value: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        return value * keep_B.to(value.dtype).view(-1, *[1] * (value.dim() - 1))

    return ControlEmbedding(**{f.name: mask(getattr(embedding, f.name)) for f in fields(embedding)})


def available_controls() -> dict[str, str]:
    """Return the registered controls and where each is defined (``module:class``)."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def control_class(name: str) -> type[Control]:
    """Return a registered control by name.

    Raises:
        ConfigError: no installed package registers a control of that name.
    """
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            loaded: type[Control] = point.load()
            return loaded
    known = nearest_names(name, available_controls()) or "none"
    raise ConfigError(
        f"There is no control '{name}'. Installed: {known}. A control registers itself under the "
        f"entry point group '{ENTRY_POINT_GROUP}'; re-install its package ('pip install -e .') "
        "after adding one."
    )


def build_control(name: str, dims: NetworkDims, options: Mapping[str, Any]) -> Control:
    """Make a registered control for a network.

    Raises:
        ConfigError: an unknown name, or options that the control does not take.
    """
    cls = control_class(name)
    try:
        return cls.build(dims, **options)
    except TypeError as error:
        raise ConfigError(
            f"Control '{name}' cannot be built from {dict(options)}: {error}"
        ) from error
