"""Embedders: the networks that turn control signals into what steers an autoregressive transformer.

A control's signals are declared in ``nemo_cosmos.controls``; this is the part that needs torch. A
new embedder subclasses :class:`ARControlEmbedder` and is named by its
:class:`~nemo_cosmos.controls.Control` under ``autoregressive``. A model has any number of controls:
their context tokens are concatenated, what they add to the tokens is summed.

Shape suffixes: B batch, T latent frames, M context tokens, C channels of the context, E model
width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Self

import torch
from torch import Tensor, nn

from nemo_cosmos.controls import ControlSpec, get_control
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.places import Grid
from nemo_cosmos.models.autoregressive.settings import FAMILY
from nemo_cosmos.models.common.control_dims import NetworkDims, TokenizerFacts

CONTEXT_MULTIPLE = 16
"""Context tokens of a control are padded to a multiple of this, so that they divide over ranks."""


@dataclass(frozen=True)
class ARControlEmbedding:
    """Embedded control signals of a batch; each field enters the network at its own place.

    Attributes:
        context_BMC: further tokens for cross-attention, after the text's; M is a multiple of
            :data:`CONTEXT_MULTIPLE` (:func:`padded_context`).
        frame_BTE: added to every token that a code of latent frame t is predicted from.
    """

    context_BMC: Tensor | None = None
    frame_BTE: Tensor | None = None


class ARControlEmbedder(nn.Module, ABC):
    """Base of all embedders. Its parameters are trained and saved with the network.

    Initialise the last layer of an embedding to zero, so that post-training starts exactly from the
    model that was pre-trained without the control.
    """

    @classmethod
    @abstractmethod
    def build(cls, dims: NetworkDims, **options: object) -> Self:
        """Make the embedder for a network; ``options`` come from the model's configuration."""

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor], grid_thw: Grid) -> ARControlEmbedding:
        """Embed the batch's signals for codes of the given latent frames, rows and columns.

        Args:
            batch: holds each array of the signals under ``Signal.batch_key``.
            grid_thw: the whole codes, also under context parallelism.
        """

    @classmethod
    def num_context_tokens(cls, grid_thw: Grid) -> int:
        """Return M for codes of a grid, which the planner counts; none by default."""
        del grid_thw
        return 0


def num_padded(num_tokens: int) -> int:
    """Return the next multiple of :data:`CONTEXT_MULTIPLE`."""
    return num_tokens + -num_tokens % CONTEXT_MULTIPLE


def padded_context(context_BMC: Tensor) -> Tensor:
    """Append zeros up to :func:`num_padded` tokens, as texts are padded."""
    missing = num_padded(context_BMC.shape[1]) - context_BMC.shape[1]
    return nn.functional.pad(context_BMC, (0, 0, 0, missing)) if missing else context_BMC


def combine(embeddings: Sequence[ARControlEmbedding]) -> ARControlEmbedding:
    """Return what several controls add together."""
    contexts = [one.context_BMC for one in embeddings if one.context_BMC is not None]
    frames = [one.frame_BTE for one in embeddings if one.frame_BTE is not None]
    return ARControlEmbedding(
        torch.cat(contexts, dim=1) if contexts else None,
        reduce(torch.add, frames) if frames else None,
    )


def build_embedders(
    controls: Sequence[ControlSpec], config: ARConfig, tokenizer: TokenizerFacts | None = None
) -> nn.ModuleDict:
    """Build the controls' embedders in the network's precision, tagged for sequence parallelism.

    Args:
        controls: what steers the model, each control once.
        config: configuration of the network that they steer.
        tokenizer: factors of the tokenizer that made the codes.

    Raises:
        ConfigError: a control is unknown, named twice, has no embedder for this family or other
            options; or the network has no cross-attention that could look at it.
    """
    factors = tokenizer or TokenizerFacts()
    dims = NetworkDims(
        hidden_size=config.hidden_size,
        context_size=config.cross_channels,
        temporal_factor=factors.temporal_factor,
        spatial_factor=factors.spatial_factor,
        patch_thw=(1, 1, 1),
    )
    if controls and not config.cross_channels:
        raise ConfigError(
            f"The control '{controls[0].name}' is attended to, but the network has neither a text "
            "nor control_channels, the width of what a network without text attends to. Set "
            f"model.config.control_channels={config.hidden_size}."
        )
    embedders: dict[str, nn.Module] = {}
    for spec in controls:
        if spec.name in embedders:
            raise ConfigError(f"The model has the control '{spec.name}' twice; name it once.")
        embedders[spec.name] = _build(spec, dims)
    modules = nn.ModuleDict(embedders)
    for parameter in modules.parameters():
        parameter.data = parameter.data.to(config.params_dtype)
        # Each tensor-parallel rank sees part of the sequence; Megatron sums these gradients.
        parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
    return modules


def num_context_tokens(controls: Sequence[ControlSpec], grid_thw: Grid) -> int:
    """Return how many tokens controls give to attend to, for codes of a grid."""
    return sum(_embedder_class(spec.name).num_context_tokens(grid_thw) for spec in controls)


def _embedder_class(name: str) -> type[ARControlEmbedder]:
    found = get_control(name).embedder(FAMILY)
    if not issubclass(found, ARControlEmbedder):
        raise ConfigError(
            f"The control '{name}' names {found.__name__} as its {FAMILY} embedder; expected "
            "a subclass of nemo_cosmos.models.autoregressive.controls.ARControlEmbedder."
        )
    return found


def _build(spec: ControlSpec, dims: NetworkDims) -> ARControlEmbedder:
    try:
        return _embedder_class(spec.name).build(dims, **spec.options)
    except TypeError as error:
        raise ConfigError(
            f"Control '{spec.name}' cannot be built from {dict(spec.options)}: {error}"
        ) from error
