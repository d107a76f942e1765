"""Configuration of the autoregressive transformer: Megatron's, with the fields of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.nn import functional as F

from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.models.common.fused import check_mode
from nemo_cosmos.models.common.megatron.fp8 import check_fp8
from nemo_cosmos.models.common.megatron.layout import check_layout
from nemo_cosmos.models.common.rope import Yarn
from nemo_cosmos.options import Range, check_record, check_value
from nemo_cosmos.platform import divisors, has_cuda

_COUNTS = (
    "num_layers", "hidden_size", "num_attention_heads", "num_query_groups", "kv_channels",
    "ffn_hidden_size", "vocab_size", "max_frames", "max_height", "max_width",
)  # fmt: skip
"""Fields that count something a network has at least one of."""
_ARCHITECTURE_FIELDS = (
    "num_layers",
    "hidden_size",
    "ffn_hidden_size",
    "num_attention_heads",
    "num_query_groups",
    "kv_channels",
    "vocab_size",
    "begin_token",
    "context_channels",
    "absolute_positions",
    "rope_theta",
    "yarn_lengths_thw",
    "yarn_scale",
    "yarn_beta_fast",
    "yarn_beta_slow",
    "max_frames",
    "max_height",
    "max_width",
    "control_channels",
)
_SINCE_THEN = ("control_channels",)
"""Fields that worlds of earlier releases lack; their defaults are what these worlds have."""
VOCABULARY_MULTIPLE = 64
"""Rows of the embedding and of the output layer are padded to a multiple of this."""


@dataclass
class ARConfig(TransformerConfig):
    """Configuration of :class:`~nemo_cosmos.models.autoregressive.network.transformer.ARNetwork`.

    Attributes:
        vocab_size: codes of the tokenizer.
        begin_token: whether a token of its own stands before the video, so that the first code is
            predicted, too.
        context_channels: width of the text embedding; 0 for a model without text.
        control_channels: width of what controls give to attend to, in a model without text; 0 where
            there is a text, whose width it then has, or no control.
        absolute_positions: whether sines and cosines of the place are added before every layer.
        rope_theta: base of the rotary embedding's frequencies.
        yarn_lengths_thw: latent frames, rows and columns of the training before positions were
            extended by YaRN; None without an extension.
        yarn_scale: by how much they are extended.
        yarn_beta_fast: see :class:`~nemo_cosmos.models.common.rope.Yarn`.
        yarn_beta_slow: see :class:`~nemo_cosmos.models.common.rope.Yarn`.
        max_frames: most latent frames.
        max_height: most latent rows.
        max_width: most latent columns.
        layer_spec: ``"local"``, ``"transformer_engine"``, or ``"auto"`` for Transformer Engine
            where it is installed and CUDA is available.
        fused: how what lies between matrix products and attention is computed
            (:mod:`nemo_cosmos.models.common.fused`).
    """

    vocab_size: int = 64_000
    begin_token: bool = False
    context_channels: int = 0
    control_channels: int = 0
    absolute_positions: bool = False
    rope_theta: float = 500_000.0
    yarn_lengths_thw: tuple[int, int, int] | None = None
    yarn_scale: float = 2.0
    yarn_beta_fast: float = 4.0
    yarn_beta_slow: float = 1.0
    max_frames: int = 5
    max_height: int = 40
    max_width: int = 64
    layer_spec: str = "auto"
    fused: str = "auto"

    has_cond_embedder: ClassVar[bool] = True
    """Every pipeline stage holds a copy of the controls' embedders, whose gradients are summed."""

    # Megatron's fields, where these models differ from its defaults.
    num_query_groups: int | None = 8
    kv_channels: int | None = None  # an equal share of the width
    add_bias_linear: bool = False
    normalization: str = "RMSNorm"
    layernorm_epsilon: float = 1e-5
    qk_layernorm: bool = True
    gated_linear_unit: bool = True
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    variable_seq_lengths: bool = True  # pipeline stages send the number of tokens ahead
    moe_token_dispatcher_type: str = "alltoall"  # unused; the default refuses variable lengths
    activation_func: Callable[..., torch.Tensor] = F.silu
    fp8_recipe: str = "tensorwise"  # current scaling, which can leave layers in bfloat16
    first_last_layers_bf16: bool | None = None  # with FP8, unless scaling is delayed
    cuda_graph_scope: object = field(default_factory=list)  # the whole layer
    use_cpu_initialization: bool = field(default_factory=lambda: not has_cuda())

    def __post_init__(self) -> None:
        """Check the sizes, then complete Megatron's fields."""
        if self.kv_channels is None:
            self._check_equal_heads()
            self.kv_channels = self.hidden_size // self.num_attention_heads
        if self.num_query_groups is None:
            self.num_query_groups = self.num_attention_heads
        self._check_numbers()
        self._check_heads()
        if self.first_last_layers_bf16 is None:
            self.first_last_layers_bf16 = bool(self.fp8) and self.fp8_recipe != "delayed"
        check_fp8(self, self.layer_spec)
        self.check_layout()
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

    def _check_equal_heads(self) -> None:
        if self.hidden_size < 1 or self.hidden_size % max(self.num_attention_heads, 1):
            raise ConfigError(
                f"hidden_size={self.hidden_size} does not divide into "
                f"num_attention_heads={self.num_attention_heads} equal heads. Choose a multiple of "
                "the number of heads, or set kv_channels, the channels of a head."
            )

    def _check_numbers(self) -> None:
        """Require every size to be a number that a network can have.

        Raises:
            ConfigError: one is of another type, or too small.
        """
        for name in _COUNTS:
            value = getattr(self, name)
            if name == "ffn_hidden_size" and value is None:
                continue
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"{name}={value}, but a network has 1 or more.")
            check_value(name, value, int)
        for name in ("begin_token", "absolute_positions"):
            check_value(name, getattr(self, name), bool)
        for name in ("context_channels", "control_channels"):
            check_value(name, getattr(self, name), int, Range(least=0))
        if self.context_channels and self.control_channels:
            raise ConfigError(
                f"control_channels={self.control_channels} is for a model without text; this one "
                f"has a text of context_channels={self.context_channels}, and controls take its "
                "width. Leave control_channels at 0."
            )
        for name in ("rope_theta", "yarn_scale", "yarn_beta_fast", "yarn_beta_slow"):
            check_value(name, getattr(self, name), float, Range(above=0))
        lengths = self.yarn_lengths_thw
        if lengths is None:
            return
        if not isinstance(lengths, tuple | list) or len(lengths) != 3:
            raise ConfigError(
                f"yarn_lengths_thw is {lengths!r:.80}; it must be three numbers, latent frames, "
                "rows and columns, or null."
            )
        for length in lengths:
            check_value("yarn_lengths_thw", length, int, Range(least=1))
        self.yarn_lengths_thw = tuple(lengths)  # type: ignore[assignment]
        if self.yarn_beta_fast <= self.yarn_beta_slow:
            raise ConfigError(
                f"yarn_beta_fast={self.yarn_beta_fast} must be above "
                f"yarn_beta_slow={self.yarn_beta_slow}; 4 and 1 are published."
            )

    def _check_heads(self) -> None:
        """Require heads to share keys evenly, and a head to turn along three axes.

        Raises:
            ConfigError: they do not.
        """
        heads, groups = self.num_attention_heads, self.num_query_groups
        assert groups is not None and self.kv_channels is not None
        if heads % groups:
            raise ConfigError(
                f"num_attention_heads={heads} cannot share num_query_groups={groups} keys evenly. "
                f"Set num_query_groups to one of {divisors(heads)}."
            )
        if self.kv_channels % 2 or self.kv_channels < 12:
            raise ConfigError(
                f"A head has {self.kv_channels} channels, but the rotary embedding over time, "
                "height and width needs an even number of at least 12. Use fewer heads, a larger "
                "width, or set kv_channels."
            )

    def check_layout(self) -> None:
        """Require the network's sizes to divide over ranks.

        Raises:
            ConfigError: they do not; names the sizes that do.
        """
        check_layout(self)
        groups, tp = self.num_query_groups or 1, self.tensor_model_parallel_size
        if groups % tp:
            raise ConfigError(
                f"num_query_groups={groups} does not divide over tensor_model_parallel_size={tp} "
                f"ranks. Set it to one of {divisors(groups)}."
            )
        if self.num_outputs % tp or self.num_inputs % tp:
            raise ConfigError(
                f"The vocabulary of {self.num_outputs} codes does not divide over "
                f"tensor_model_parallel_size={tp} ranks. Use a power of two up to 64."
            )

    @property
    def num_outputs(self) -> int:
        """Rows of the output layer: the codes, padded."""
        return _padded(self.vocab_size)

    @property
    def num_inputs(self) -> int:
        """Rows of the embedding: the codes and the token of the beginning, padded."""
        return _padded(self.vocab_size + int(self.begin_token))

    @property
    def begin_id(self) -> int:
        """The token of the beginning: the number behind the codes."""
        return self.vocab_size

    @property
    def cross_channels(self) -> int:
        """Width of what the layers attend to besides the tokens; 0 where there is nothing."""
        return self.context_channels or self.control_channels

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        assert self.kv_channels is not None
        return self.kv_channels

    @property
    def yarn(self) -> Yarn | None:
        """The extension of positions; None without one."""
        if self.yarn_lengths_thw is None:
            return None
        return Yarn(
            self.yarn_lengths_thw, self.yarn_scale, self.yarn_beta_fast, self.yarn_beta_slow
        )

    def architecture(self) -> dict[str, object]:
        """Return what is saved beside the weights: plain values for :meth:`from_architecture`."""
        values = {name: getattr(self, name) for name in _ARCHITECTURE_FIELDS}
        lengths = self.yarn_lengths_thw
        return {**values, "yarn_lengths_thw": None if lengths is None else list(lengths)}

    @classmethod
    def from_architecture(cls, values: Mapping[str, Any], **overrides: Any) -> ARConfig:
        """Rebuild a configuration from :meth:`architecture`'s values.

        Args:
            values: the values of a saved model's ``config.json``.
            **overrides: further fields, such as ``params_dtype`` or parallel sizes.

        Raises:
            ConfigError: a name that is unknown or missing, or an impossible value.
        """
        required = [name for name in _ARCHITECTURE_FIELDS if name not in _SINCE_THEN]
        check_record(values, "network", _ARCHITECTURE_FIELDS, required=required)
        known = {f.name for f in fields(cls)}
        for name in overrides:
            if name not in known:
                raise ConfigError(
                    f"ARConfig has no field '{name}'. The nearest names are "
                    f"{nearest_names(name, known)}."
                )
        return cls(**{**values, **overrides})


def _padded(rows: int) -> int:
    return -(-rows // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
