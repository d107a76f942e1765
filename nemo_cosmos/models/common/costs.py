"""What a training step costs, in the terms in which the planner asks a model's family.

A family describes one step as a :class:`Workload`: the parameters by place, the operations of a
sample, and the bytes that autograd keeps. ``nemo_cosmos.planning`` spreads it over GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

Size3 = tuple[int, int, int]
"""Frames, height and width; in pixels or in latents, as the name says."""


@dataclass(frozen=True)
class Split:
    """Over how many ranks one sample is split.

    Attributes:
        tp: tensor-parallel size; above 1 always with sequence parallelism.
        cp: context-parallel size.
        pp: pipeline stages.
    """

    tp: int = 1
    cp: int = 1
    pp: int = 1


SAVED_STATE_BYTES = 12
"""What a step checkpoint keeps of a parameter besides the weight that the network computes with: a
float32 weight and both moments of Adam."""


@dataclass(frozen=True)
class Precision:
    """Bytes of one parameter, by their use.

    Attributes:
        name: Lightning's name, such as ``"bf16-mixed"``.
        compute_bytes: a weight or activation in the forward pass.
        gradient_bytes: an accumulated gradient.
        optimizer_bytes: float32 master weight (in mixed precision) and both moments of Adam.
        ema_bytes: the averaged weight; 0 without an average.
        fp8: whether the matrix products of the layers run in FP8.
        fp8_recipe: how numbers are scaled for FP8 (:mod:`nemo_cosmos.models.common.megatron.fp8`).
    """

    name: str
    compute_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    ema_bytes: int
    fp8: bool = False
    fp8_recipe: str = "tensorwise"

    @classmethod
    def of(
        cls,
        name: str,
        *,
        grad_reduce_in_fp32: bool,
        ema: bool,
        fp8: bool = False,
        fp8_recipe: str = "tensorwise",
    ) -> Precision:
        """Return Megatron's mixed precision by its name.

        Args:
            name: ``"32"``, ``"bf16-mixed"`` or ``"16-mixed"``.
            grad_reduce_in_fp32: whether gradients are accumulated and reduced in float32.
            ema: whether a float32 average of the weights is kept.
            fp8: whether FP8 is asked for.
            fp8_recipe: how numbers are scaled for it.
        """
        ema_bytes = 4 if ema else 0
        if name.startswith("32"):  # the weights are their own master copy
            return cls(name, 4, 4, 8, ema_bytes)
        gradient_bytes = 4 if grad_reduce_in_fp32 else 2
        return cls(name, 2, gradient_bytes, 12, ema_bytes, fp8, fp8_recipe)

    @property
    def state_bytes(self) -> int:
        """All bytes of one parameter."""
        return self.compute_bytes + self.gradient_bytes + self.optimizer_bytes + self.ema_bytes

    def checkpoint_bytes(self, parameters: ParameterCounts) -> int:
        """Size of a step checkpoint: of a run with adapters it holds what is trained alone."""
        each = self.compute_bytes + SAVED_STATE_BYTES + self.ema_bytes
        return each * parameters.trained


@dataclass(frozen=True)
class ParameterCounts:
    """A network's parameters by place.

    Attributes:
        layers: number of layers.
        layer_sharded: parameters of one layer that tensor-parallel ranks split.
        layer_replicated: parameters of one layer that each of them holds.
        every_stage: parameters outside the layers, on every pipeline stage.
        first_stage: parameters on the first stage alone, such as the patch embedding.
        last_stage: parameters on the last stage alone, such as the output.
        training_only: parameters on the last stage that belong to training and not to a released
            model, such as a learned variance of the loss.
        layer_adapters: parameters of one layer's adapters, trained instead of its weights.
        trained_outside: parameters outside the layers that are trained beside adapters, on every
            stage; None where all weights are trained.
    """

    layers: int
    layer_sharded: int
    layer_replicated: int
    every_stage: int = 0
    first_stage: int = 0
    last_stage: int = 0
    training_only: int = 0
    layer_adapters: int = 0
    trained_outside: int | None = None

    @property
    def network(self) -> int:
        """The network with its controls, as a released model has them."""
        layers = self.layers * (self.layer_sharded + self.layer_replicated)
        return layers + self.every_stage + self.first_stage + self.last_stage

    @property
    def trained(self) -> int:
        """All that the optimiser steps."""
        if self.trained_outside is not None:
            return self.layers * self.layer_adapters + self.trained_outside
        return self.network + self.training_only

    def on_stage(self, tp: int, pp: int) -> int:
        """Return the most parameters that a rank holds, over the pipeline stages."""
        layer = self.layer_sharded // tp + self.layer_replicated + self.layer_adapters
        layers = self.layers // pp * layer
        last = self.last_stage + self.training_only
        ends = self.first_stage + last if pp == 1 else max(self.first_stage, last)
        return layers + self.every_stage + ends

    def trained_on_stage(self, tp: int, pp: int) -> int:
        """Return the most trained parameters that a rank holds; adapters count as whole."""
        if self.trained_outside is None:
            return self.on_stage(tp, pp)
        return self.layers // pp * self.layer_adapters + self.trained_outside


@dataclass(frozen=True)
class ForwardFlops:
    """Operations of one sample's forward pass.

    Attributes:
        attention: attention scores and weighted sums.
        other: all other matrix products.
        has_weight_gradients: whether the backward pass computes gradients of the weights; those of
            adapters are too few to count.
    """

    attention: int
    other: int
    has_weight_gradients: bool = True

    @property
    def total(self) -> int:
        """All of the forward pass."""
        return self.attention + self.other

    @property
    def training(self) -> int:
        """Forward and backward pass, without recomputation."""
        return 3 * self.attention + self.product_passes * self.other

    @property
    def product_passes(self) -> int:
        """Forward passes that a product costs: itself, its input's gradient, its weight's."""
        return 3 if self.has_weight_gradients else 2

    @property
    def recomputed_training(self) -> int:
        """The same with full recomputation of activations: the forward pass twice."""
        return self.training + self.total


@dataclass(frozen=True)
class Elementwise:
    """What a layer does between its matrix products and attention, for one sample.

    Attributes:
        forward_passes: how often a value of the width E is read or written for every token, in 16
            bits; a value in float32 counts twice.
        backward_passes: the same of the backward pass.
        forward_kernels: kernels of the whole layer that a forward pass starts.
        backward_kernels: the same of the backward pass.
    """

    forward_passes: float
    backward_passes: float
    forward_kernels: int
    backward_kernels: int


@dataclass(frozen=True)
class StepInputs:
    """What one optimiser step is fed with, before a family knows its cost.

    Attributes:
        clips_thw: frames, height and width of the training videos in pixels; the first is planned
            for, and all have to divide over ranks.
        num_text_tokens: tokens of a text embedding.
        micro_batch_size: samples of a forward pass.
        global_batch_size: samples of an optimiser step.
        precision: bytes by use.
        packed: whether samples are packed.
        num_views: cameras of a sample, each with a clip of its own; None for what the family's
            models are usually trained on.
    """

    clips_thw: tuple[Size3, ...]
    num_text_tokens: int
    micro_batch_size: int
    global_batch_size: int
    precision: Precision
    packed: bool = False
    num_views: int | None = None


class Workload(Protocol):
    """One training step of a transformer, before it is spread over GPUs."""

    @property
    def parameters(self) -> ParameterCounts:
        """The network's parameters by place."""
        ...

    @property
    def precision(self) -> Precision:
        """Bytes by use."""
        ...

    @property
    def micro_batch_size(self) -> int:
        """Samples of a forward pass."""
        ...

    @property
    def global_batch_size(self) -> int:
        """Samples of an optimiser step."""
        ...

    @property
    def flops(self) -> ForwardFlops:
        """Operations of one sample's forward pass."""
        ...

    @property
    def num_tokens(self) -> int:
        """Tokens of one sample."""
        ...

    @property
    def num_layers(self) -> int:
        """Layers of the network."""
        ...

    @property
    def num_heads(self) -> int:
        """Attention heads of a layer."""
        ...

    @property
    def hidden_size(self) -> int:
        """Width E of a token."""
        ...

    @property
    def elementwise(self) -> Elementwise:
        """What a layer does between its products."""
        ...

    @property
    def is_fused(self) -> bool:
        """Whether that is done in few kernels."""
        ...

    @property
    def context_kind(self) -> str:
        """How context-parallel ranks exchange: ``"p2p"``, a ring, or ``"a2a"``, all to all."""
        ...

    @property
    def fp8_share(self) -> float:
        """Share of the products outside attention that FP8 computes where it is on."""
        ...

    def variant(
        self,
        *,
        fused: bool | None = None,
        fp8: bool | None = None,
        context_kind: str | None = None,
    ) -> Workload:
        """Return the same step, computed in another way where one is given."""
        ...

    @property
    def sublayers(self) -> int:
        """Parts of a layer that gather and reduce over tensor-parallel ranks."""
        ...

    @property
    def recompute_group(self) -> int:
        """Layers that full recomputation runs again together."""
        ...

    def check_split(self, split: Split) -> None:
        """Require what training requires of a layout.

        Raises:
            ConfigError: layers, heads or samples do not divide over the ranks.
        """
        ...

    def layer_bytes(self, split: Split) -> float:
        """Return the bytes that one layer keeps for one micro-batch without recomputation."""
        ...

    def end_bytes(self, split: Split) -> float:
        """Return the bytes kept outside the layers for one micro-batch."""
        ...

    def working_bytes(self, split: Split) -> float:
        """Return the temporary bytes of a layer's backward pass."""
        ...

    def describe(self) -> dict[str, object]:
        """Return what the plan's JSON says of the samples, such as ``tokens_per_sample``."""
        ...

    def published_bytes(self) -> dict[str, float]:
        """Return ``model_state`` and ``activation`` in bytes as the model's paper counts them.

        Returns:
            Nothing where no paper counts them.
        """
        ...


class CountedModel(Protocol):
    """A Lightning module that trains data-parallel only; the planner counts its step."""

    @classmethod
    def meta_step(
        cls, config: Any, clip_thw: Size3, dtype: torch.dtype, /
    ) -> tuple[nn.Module, torch.Tensor]:
        """Return the network and one clip for it, both on torch's meta device.

        Args:
            config: the network's configuration, as the module's own argument ``config``.
            clip_thw: frames, height and width of the clip in pixels.
            dtype: precision of the weights and the clip.

        Raises:
            WrongFrameCountError, WrongSizeError: the network does not take such a clip.
        """
        ...


def token_bytes(workload: Workload, split: Split) -> float:
    """Return the bytes of one value of the width E for every token that a rank holds."""
    tokens = workload.num_tokens * workload.micro_batch_size / (split.cp * split.tp)
    return tokens * workload.hidden_size * workload.precision.compute_bytes
