"""Configuration of the diffusion transformer: Megatron's, with the DiT's own fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.nn import functional as F

from nemo_cosmos.batch import MAX_VIEWS
from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.models.common.fused import check_mode
from nemo_cosmos.models.common.megatron.fp8 import check_fp8
from nemo_cosmos.models.common.megatron.layout import check_layout
from nemo_cosmos.options import Range, check_record, check_value
from nemo_cosmos.platform import has_cuda

_COUNTS = (
    "num_layers", "hidden_size", "num_attention_heads", "in_channels", "out_channels",
    "patch_spatial", "patch_temporal", "crossattn_emb_channels", "adaln_lora_dim",
    "max_frames", "max_height", "max_width",
)  # fmt: skip
"""Fields that count something a network has at least one of."""
# What a saved model records: all that decides the network's function and its weights' shapes.
_ARCHITECTURE_FIELDS = (
    "num_layers",
    "hidden_size",
    "ffn_hidden_size",
    "num_attention_heads",
    "in_channels",
    "out_channels",
    "condition_mask",
    "control_channels",
    "concat_padding_mask",
    "patch_spatial",
    "patch_temporal",
    "crossattn_emb_channels",
    "adaln_lora_dim",
    "extra_pos_emb",
    "rope_ratios_thw",
    "base_fps",
    "max_frames",
    "max_height",
    "max_width",
)
# Recorded where they are set, so that a network without them is recorded as it always was.
_OPTIONAL_FIELDS = ("view_slots",)


@dataclass
class DiTConfig(TransformerConfig):
    """Configuration of :class:`~nemo_cosmos.models.diffusion.network.dit.DiT`.

    Sizes of latents are counted before patching: latent frames, and latent rows and columns.

    Attributes:
        in_channels: channels of a latent.
        out_channels: channels of the prediction.
        condition_mask: whether a channel marks the given frames (Video2World).
        control_channels: further input channels of a control, for example 6 of a camera's rays.
        concat_padding_mask: whether a channel marks padding.
        patch_spatial: edge of a patch, in latent pixels.
        patch_temporal: length of a patch, in latent frames.
        crossattn_emb_channels: width of the text embedding.
        adaln_lora_dim: rank of the modulation maps.
        extra_pos_emb: whether a learned position embedding is added before every layer.
        rope_ratios_thw: range extension of the rotary embedding along time, height and width.
        base_fps: frame rate in Hz at which positions in time are counted.
        max_frames: most latent frames.
        max_height: most latent rows.
        max_width: most latent columns.
        view_slots: names of the cameras that have an embedding of their own, where the network
            takes several (:mod:`~nemo_cosmos.models.diffusion.network.views`); all other names
            share one. Empty for a network of one camera.
        passthrough_init: whether a fresh network passes the negative of its latent on to its
            output (:func:`~nemo_cosmos.models.diffusion.network.embeddings.patch_basis`).
        layer_spec: ``"local"``, ``"transformer_engine"``, or ``"auto"`` for Transformer Engine
            where it is installed and CUDA is available.
        fused: how what lies between matrix products and attention is computed: ``"auto"``, on CUDA
            in few compiled kernels, or ``"plain"`` (:mod:`nemo_cosmos.models.common.fused`).
    """

    in_channels: int = 16
    out_channels: int = 16
    condition_mask: bool = False
    control_channels: int = 0
    concat_padding_mask: bool = True
    patch_spatial: int = 2
    patch_temporal: int = 1
    crossattn_emb_channels: int = 1024
    adaln_lora_dim: int = 256
    extra_pos_emb: bool = True
    rope_ratios_thw: tuple[float, float, float] = (1.0, 1.0, 1.0)
    base_fps: float = 24.0
    max_frames: int = 128
    max_height: int = 240
    max_width: int = 240
    view_slots: tuple[str, ...] = ()
    passthrough_init: bool = False
    layer_spec: str = "auto"
    fused: str = "auto"

    has_cond_embedder: ClassVar[bool] = True
    """Megatron then adds up, over pipeline stages, the gradients of what all of them hold."""

    # Megatron's fields, where the DiT differs from a language model.
    add_bias_linear: bool = False
    normalization: str = "RMSNorm"  # of queries and keys, the only Megatron norms in the DiT
    layernorm_epsilon: float = 1e-6
    qk_layernorm: bool = True  # Megatron then sums these norms' gradients over tensor parallelism
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    variable_seq_lengths: bool = True  # pipeline stages send the number of tokens ahead
    moe_token_dispatcher_type: str = "alltoall"  # unused; the default refuses variable lengths
    activation_func: Callable[..., torch.Tensor] = F.gelu  # the exact form
    init_method: Callable[..., torch.Tensor] | None = torch.nn.init.xavier_uniform_
    output_layer_init_method: Callable[..., torch.Tensor] | None = torch.nn.init.xavier_uniform_
    fp8_recipe: str = "tensorwise"  # current scaling, which can leave layers in bfloat16
    first_last_layers_bf16: bool | None = None  # with FP8, unless scaling is delayed
    cuda_graph_scope: object = field(
        default_factory=list
    )  # the whole layer; the default is deprecated
    use_cpu_initialization: bool = field(default_factory=lambda: not has_cuda())

    def __post_init__(self) -> None:
        """Check the sizes, then complete Megatron's fields."""
        self._check_numbers()
        self.rope_ratios_thw = tuple(self.rope_ratios_thw)  # type: ignore[assignment]
        self.view_slots = _checked_slots(self.view_slots)
        if self.first_last_layers_bf16 is None:
            self.first_last_layers_bf16 = bool(self.fp8) and self.fp8_recipe != "delayed"
        check_fp8(self, self.layer_spec)
        if self.hidden_size < 1 or self.hidden_size % max(self.num_attention_heads, 1):
            raise ConfigError(
                f"hidden_size={self.hidden_size} does not divide into "
                f"num_attention_heads={self.num_attention_heads} equal heads. "
                "Choose a multiple of the number of heads."
            )
        self.check_layout()
        head_dim = self.hidden_size // self.num_attention_heads
        if head_dim % 2 or head_dim < 12:
            raise ConfigError(
                f"A head has {head_dim} channels (hidden_size={self.hidden_size} over "
                f"{self.num_attention_heads} heads), but the rotary embedding over time, height "
                "and width needs an even number of at least 12. Use fewer heads or a larger width."
            )
        check_mode(self.fused)
        if self.layer_spec not in ("auto", "local", "transformer_engine"):
            raise ConfigError(
                f"layer_spec='{self.layer_spec}' is unknown. Use 'auto', 'local' or "
                "'transformer_engine'."
            )
        if self.virtual_pipeline_model_parallel_size is not None:
            # Of two ranks, each is both before and behind the other. In one batch of messages they
            # would mistake activations for gradients, so each message is sent on its own.
            self.overlap_p2p_comm, self.batch_p2p_comm = True, False
        super().__post_init__()

    def _check_numbers(self) -> None:
        """Require every size to be a number that a network can have.

        Raises:
            ConfigError: one is of another type, or too small.
        """
        for name in _COUNTS:
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"{name}={value}, but a network has 1 or more.")
            check_value(name, value, int)
        for name in ("condition_mask", "concat_padding_mask", "extra_pos_emb"):
            check_value(name, getattr(self, name), bool)
        check_value("control_channels", self.control_channels, int, Range(least=0))
        check_value("ffn_hidden_size", self.ffn_hidden_size, int | None, Range(least=1))
        check_value("base_fps", self.base_fps, float, Range(above=0))
        ratios = self.rope_ratios_thw
        if not isinstance(ratios, tuple | list) or len(ratios) != 3:
            raise ConfigError(
                f"rope_ratios_thw is {ratios!r:.80}; it must be three numbers, of time, height and "
                "width."
            )
        for ratio in ratios:
            check_value("rope_ratios_thw", ratio, float, Range(above=0))

    def check_layout(self) -> None:
        """Require the network's sizes to divide over ranks.

        Raises:
            ConfigError: heads or the feed-forward network's width do not divide over
                tensor-parallel ranks, heads not over context-parallel ranks that share them, or
                layers not over pipeline stages; names the sizes that do.
        """
        check_layout(self)

    @property
    def input_channels(self) -> int:
        """Channels of the patch embedding's input: latent, masks and control."""
        masks = int(self.condition_mask) + int(self.concat_padding_mask)
        return self.in_channels + masks + self.control_channels

    @property
    def max_views(self) -> int:
        """Most views of a sample."""
        return MAX_VIEWS if self.view_slots else 1

    @property
    def patch_thw(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a patch."""
        return self.patch_temporal, self.patch_spatial, self.patch_spatial

    @property
    def patch_volume(self) -> int:
        """Latent positions in a patch."""
        return self.patch_temporal * self.patch_spatial**2

    def architecture(self) -> dict[str, object]:
        """Return what is saved beside the weights: plain values for :meth:`from_architecture`."""
        values = {name: getattr(self, name) for name in _ARCHITECTURE_FIELDS}
        views = {"view_slots": list(self.view_slots)} if self.view_slots else {}
        return {**values, "rope_ratios_thw": list(self.rope_ratios_thw), **views}

    @classmethod
    def from_architecture(cls, values: Mapping[str, Any], **overrides: Any) -> DiTConfig:
        """Rebuild a configuration from :meth:`architecture`'s values.

        Args:
            values: the values of a saved model's ``config.json``.
            **overrides: further fields, such as ``params_dtype`` or parallel sizes.

        Raises:
            ConfigError: a name that is unknown or missing, or an impossible value.
        """
        known_fields = (*_ARCHITECTURE_FIELDS, *_OPTIONAL_FIELDS)
        check_record(values, "network", known_fields, required=_ARCHITECTURE_FIELDS)
        known = {f.name for f in fields(cls)}
        for name in overrides:
            if name not in known:
                raise ConfigError(
                    f"DiTConfig has no field '{name}'. The nearest names are "
                    f"{nearest_names(name, known)}."
                )
        return cls(**{**values, **overrides})


def _checked_slots(names: object) -> tuple[str, ...]:
    """The names of cameras as a tuple.

    Raises:
        ConfigError: they are not a list of different names.
    """
    if not isinstance(names, tuple | list) or not all(
        isinstance(name, str) and name for name in names
    ):
        raise ConfigError(
            f"view_slots is {names!r:.80}; expected a list of the cameras' names, such as "
            "[front, front_left, front_right]."
        )
    if len(set(names)) < len(names):
        raise ConfigError(f"view_slots names a camera twice: {', '.join(names)}. Name it once.")
    return tuple(names)
