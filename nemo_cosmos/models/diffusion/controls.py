"""Embedders: the networks that turn control signals into what steers the diffusion transformer.

A control's signals are declared in ``nemo_cosmos.controls``; this is the part that needs torch. A
new embedder subclasses :class:`ControlEmbedder` and is named by its
:class:`~nemo_cosmos.controls.Control` under ``diffusion``. A model has any number of controls: what
their embedders add to the noise level and to the tokens is summed; channels and context tokens are
concatenated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import ClassVar, Self, TypeAlias

from torch import Tensor, nn

from nemo_cosmos.controls import ControlSpec, get_control
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.control_dims import NetworkDims, TokenizerFacts
from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding

__all__ = [
    "ControlEmbedder",
    "ControlEmbedding",
    "EmbedControls",
    "NetworkDims",
    "TokenizerFacts",
    "build_embedder",
    "embedder_class",
    "has_level_each_frame",
    "mask_embedding",
]

FAMILY = "diffusion"

EmbedControls: TypeAlias = Callable[
    [Mapping[str, object], tuple[int, ...]], ControlEmbedding | None
]
"""From a batch and the latents' shape to what all controls add; None where there is no control."""


class ControlEmbedder(nn.Module, ABC):
    """Base of all embedders. Its parameters are trained and saved with the network.

    Initialise the last layer of an embedding to zero, so that post-training starts exactly from the
    model that was pre-trained without the control.

    Attributes:
        level_each_frame: whether it adds a value for each latent frame to the noise level's
            embedding, instead of one for the video.
        num_latent_channels: channels that it adds to the network's input.
        sets_change_base: whether it says where changes start from
            (``ControlEmbedding.change_base_BCTHW``), which takes a process that learns them.
    """

    level_each_frame: ClassVar[bool] = False
    num_latent_channels: int = 0
    sets_change_base: bool = False

    @classmethod
    @abstractmethod
    def build(cls, dims: NetworkDims, **options: object) -> Self:
        """Make the embedder for a network; ``options`` come from the model's configuration."""

    @abstractmethod
    def forward(
        self, batch: Mapping[str, Tensor], latent_shape_BCTHW: tuple[int, ...]
    ) -> ControlEmbedding:
        """Embed the batch's signals for latents of the given shape.

        Args:
            batch: holds each array of the signals under ``Signal.batch_key``, and under
                ``first_frames`` those of the latents where the process learns changes.
            latent_shape_BCTHW: shape of the whole latents, also under context parallelism.
        """

    def carry(self, batch: Mapping[str, Tensor], picture_BC1HW: Tensor, num_frames: int) -> Tensor:
        """Return the first picture as its later frames start from it, ``(B, C, T, H, W)``.

        The same in pictures as ``change_base_BCTHW`` is in latents, for controls that give it.

        Args:
            batch: holds the signals' arrays.
            picture_BC1HW: the first pictures.
            num_frames: T, of the video.
        """
        raise NotImplementedError(f"{type(self).__name__} says not what changes start from.")


def embedder_class(name: str) -> type[ControlEmbedder]:
    """Return the embedder of a registered control for diffusion models.

    Raises:
        ConfigError: no package registers the control, or it has no embedder for this family.
    """
    found = get_control(name).embedder(FAMILY)
    if not issubclass(found, ControlEmbedder):
        raise ConfigError(
            f"The control '{name}' names {found.__name__} as its {FAMILY} embedder; expected a "
            "subclass of nemo_cosmos.models.diffusion.controls.ControlEmbedder."
        )
    return found


def build_embedder(spec: ControlSpec, dims: NetworkDims) -> ControlEmbedder:
    """Make the embedder of one control.

    Raises:
        ConfigError: an unknown name, or options that the control does not take.
    """
    cls = embedder_class(spec.name)
    try:
        return cls.build(dims, **spec.options)
    except TypeError as error:
        raise ConfigError(
            f"Control '{spec.name}' cannot be built from {dict(spec.options)}: {error}"
        ) from error


def has_level_each_frame(controls: Sequence[ControlSpec]) -> bool:
    """Whether any of these controls gives each latent frame a noise level of its own."""
    return any(embedder_class(spec.name).level_each_frame for spec in controls)


def mask_embedding(embedding: ControlEmbedding, keep_B: Tensor) -> ControlEmbedding:
    """Return the embedding with zeros for the samples whose ``keep_B`` is 0.

    Where changes start from stays: it is what the samples are made of, not what the network hears,
    and guidance compares the same samples with and without their control.
    """

    def mask(value: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        return value * keep_B.to(value.dtype).view(-1, *[1] * (value.dim() - 1))

    masked = {f.name: mask(getattr(embedding, f.name)) for f in fields(embedding)}
    return ControlEmbedding(**{**masked, "change_base_BCTHW": embedding.change_base_BCTHW})
