"""What a training step of an autoregressive world model costs: figures for the planner.

Activations are what autograd keeps for the backward pass, counted from the layer as it is written
(``network/layers.py``), in values for each token; E is the width, Q and K are the channels of all
queries and of all keys, F is the feed-forward width:

- every sub-layer: its input and the input normalised, 2 E, split over the tokens by sequence
  parallelism;
- self-attention: queries as projected and turned, and the output, 3 Q; keys as projected and
  turned, and the values, 3 K; split over heads;
- cross-attention: queries before and after their norm, and the output, 3 Q; of each text token the
  keys before and after their norm and the values, 3 K;
- feed-forward: gate and up, the gate's activation and the product, 4 F, split over F.

``tests/unit/models/autoregressive/test_costs.py`` compares this with the bytes that autograd keeps.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from torch import nn

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.models.autoregressive.controls import build_embedders
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.flops import ar_flops
from nemo_cosmos.models.autoregressive.network.places import Grid, check_grid
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork
from nemo_cosmos.models.autoregressive.parallel.divisibility import check_packs, check_tokens
from nemo_cosmos.models.common.attention.context_parallel import DEFAULT_KIND
from nemo_cosmos.models.common.control_dims import TokenizerFacts
from nemo_cosmos.models.common.costs import (
    Elementwise,
    ForwardFlops,
    ParameterCounts,
    Precision,
    Size3,
    Split,
    token_bytes,
)
from nemo_cosmos.models.common.latents import LatentGrid
from nemo_cosmos.platform import install_cpu_backend
from nemo_cosmos.platform.distributed import single_process_groups

if TYPE_CHECKING:
    from nemo_cosmos.models.common.megatron.module import Peft

NORMED_VALUES = 2
"""Kept values of the width E a token and sub-layer: its input, and the input normalised."""
LOGIT_BYTES = 4 * 3
"""Kept bytes of each code's score: float32 scores, their exponentials and gradients."""
ELEMENTWISE = Elementwise(22, 44, forward_kernels=24, backward_kernels=48)

PAPER_STATE_BYTES = 6 + 2 + 8
"""Bytes a parameter of the paper: weights with their copies, gradient, moments (section 5.3)."""
PAPER_ACTIVATION_VALUES = 17
"""Values of the width E a token and layer that the paper counts, of 2 bytes each."""

PUBLISHED_CLIP_THW: Size3 = (33, 640, 1024)
"""Frames, height and width of the published models' videos."""
NANO_CLIP_THW: Size3 = (17, 96, 128)
"""The same of a small model, which does not take the published size."""


@dataclass(frozen=True)
class ARWorkload:
    """One training step of an autoregressive transformer.

    Attributes:
        config: the network's configuration; its parallel sizes do not matter here.
        grid_thw: latent frames, rows and columns of a sample.
        num_text_tokens: tokens of the text embedding and of the controls.
        micro_batch_size: samples of a forward pass.
        global_batch_size: samples of an optimiser step.
        precision: bytes by use.
        packed: whether samples are packed.
        other_grids_thw: further sizes of samples, which have to divide over ranks, too.
        controls: what steers the model.
        tokenizer: factors of the tokenizer that made the codes.
        peft: what is trained instead of all weights.
    """

    config: ARConfig
    grid_thw: Grid
    num_text_tokens: int
    micro_batch_size: int
    global_batch_size: int
    precision: Precision
    packed: bool = False
    other_grids_thw: tuple[Grid, ...] = ()
    controls: tuple[ControlSpec, ...] = ()
    tokenizer: TokenizerFacts = field(default_factory=TokenizerFacts)
    peft: Peft | None = None

    @cached_property
    def parameters(self) -> ParameterCounts:
        """The network's parameters by place."""
        return count_parameters(self.config, self.controls, self.tokenizer, self.peft)

    @property
    def num_tokens(self) -> int:
        """Tokens of one sample."""
        return check_grid(self.grid_thw, self.config)

    @property
    def num_layers(self) -> int:
        """Layers of the network."""
        return int(self.config.num_layers)

    @property
    def num_heads(self) -> int:
        """Attention heads of a layer."""
        return int(self.config.num_attention_heads)

    @property
    def hidden_size(self) -> int:
        """Width E of a token."""
        return int(self.config.hidden_size)

    @property
    def sublayers(self) -> int:
        """Self-attention, cross-attention where there is any, and the feed-forward network."""
        return 3 if self.config.cross_channels else 2

    @property
    def elementwise(self) -> Elementwise:
        """What a layer does between its products."""
        return ELEMENTWISE

    @property
    def is_fused(self) -> bool:
        """Whether that is compiled into few kernels."""
        return self.config.fused != "plain"

    @property
    def context_kind(self) -> str:
        """How context-parallel ranks exchange keys and values."""
        kind = self.config.cp_comm_type
        return kind if isinstance(kind, str) else DEFAULT_KIND

    @property
    def fp8_share(self) -> float:
        """Share of the products that FP8 computes: those of the layers, but for the ends."""
        in_bfloat16 = 0 if self.precision.fp8_recipe == "delayed" else 2
        return max(self.num_layers - in_bfloat16, 0) / self.num_layers

    def variant(
        self,
        *,
        fused: bool | None = None,
        fp8: bool | None = None,
        context_kind: str | None = None,
    ) -> ARWorkload:
        """Return the same step, computed in another way where one is given."""
        config, precision = copy.copy(self.config), self.precision
        if fused is not None:
            config.fused = "auto" if fused else "plain"
        if context_kind is not None:
            config.cp_comm_type = context_kind
        if fp8 is not None:
            precision = replace(precision, fp8=fp8)
        changed = replace(self, config=config, precision=precision)
        changed.__dict__["parameters"] = self.parameters  # the same, and slow to count
        return changed

    @property
    def recompute_group(self) -> int:
        """Layers that full recomputation runs again together."""
        return self.config.recompute_num_layers or 1

    @property
    def flops(self) -> ForwardFlops:
        """Operations of one sample's forward pass."""
        parts = ar_flops(self.config, self.num_tokens, self.num_text_tokens)
        attention = parts.self_attention + parts.cross_attention
        return ForwardFlops(attention, parts.forward - attention, self.peft is None)

    def check_split(self, split: Split) -> None:
        """Apply the checks of training.

        Raises:
            ConfigError: layers, heads or samples do not divide over the ranks.
        """
        config = copy.copy(self.config)
        config.tensor_model_parallel_size, config.sequence_parallel = split.tp, split.tp > 1
        config.context_parallel_size, config.pipeline_model_parallel_size = split.cp, split.pp
        config.check_layout()
        if self.packed:
            check_packs(config)
        grids = () if self.packed else (self.grid_thw, *self.other_grids_thw)
        check_tokens(config, grids, self.num_text_tokens)

    def layer_bytes(self, split: Split) -> float:
        """Return the bytes that one layer keeps for one micro-batch without recomputation."""
        config, size = self.config, self.precision.compute_bytes
        queries = self.num_heads * config.head_dim
        keys = (config.num_query_groups or 1) * config.head_dim
        values = 3 * queries + 3 * keys + 4 * (config.ffn_hidden_size or 0)
        text = 0.0
        if config.cross_channels:
            values += 3 * queries
            text = self.num_text_tokens * 3 * keys / split.tp
        wide = self.sublayers * NORMED_VALUES * self.hidden_size
        tokens = self.num_tokens / (split.cp * split.tp)
        return (tokens * (wide + values) + text) * self.micro_batch_size * size

    def end_bytes(self, split: Split) -> float:
        """Return the bytes of the rotary tables, the last norm and the scores of all codes."""
        tokens = self.num_tokens * self.micro_batch_size / split.cp
        rotary = self.num_tokens / split.cp * self.config.head_dim * 4
        if split.pp > 1:
            return rotary
        scores = tokens * self.config.num_outputs / split.tp * LOGIT_BYTES
        return rotary + scores + NORMED_VALUES * token_bytes(self, split)

    def working_bytes(self, split: Split) -> float:
        """Return what is alive at once in the backward pass of the feed-forward network."""
        ratio = (self.config.ffn_hidden_size or 0) / self.hidden_size
        return (4 * ratio + NORMED_VALUES) * token_bytes(self, split)

    def describe(self) -> dict[str, object]:
        """Return what the plan's JSON says of the samples."""
        return {"latent_thw": list(self.grid_thw), "tokens_per_sample": self.num_tokens}

    def published_bytes(self) -> dict[str, float]:
        """Return the paper's estimate: 16 bytes a parameter, 2 x 17 E bytes a token and layer."""
        values = self.num_layers * PAPER_ACTIVATION_VALUES * self.num_tokens * self.hidden_size
        return {
            "model_state": float(self.parameters.network * PAPER_STATE_BYTES),
            "activation": 2.0 * values,
        }


def count_parameters(
    config: ARConfig,
    controls: Sequence[ControlSpec] = (),
    tokenizer: TokenizerFacts | None = None,
    peft: Peft | None = None,
) -> ParameterCounts:
    """Build the network with one layer on torch's meta device, without memory, and count it.

    The rows that the token of the beginning adds to the embedding count as training's own: the
    published figures leave them out.

    Args:
        config: the network's configuration, however it is spread over ranks.
        controls: what steers the model.
        tokenizer: factors of the tokenizer that made the codes, which embedders depend on.
        peft: what is trained instead of all weights.
    """
    install_cpu_backend()
    num_layers = config.num_layers
    config = ARConfig.from_architecture(
        {**config.architecture(), "num_layers": 1},  # all are alike
        use_cpu_initialization=True,
        perform_initialization=False,
        layer_spec="local",
    )
    with torch.device("meta"):
        net = ARNetwork(config, pg_collection=single_process_groups())
        steering = build_embedders(controls, config, tokenizer)
    layer = net.blocks.layers[0]
    sharded = sum(
        _size([module])
        for module in layer.modules()
        if isinstance(module, ColumnParallelLinear | RowParallelLinear)
    )
    begin = (config.num_inputs - config.num_outputs) * config.hidden_size
    return ParameterCounts(
        layers=num_layers,
        layer_sharded=sharded,
        layer_replicated=_size([layer]) - sharded,
        every_stage=_size([steering]),
        first_stage=_size([net.embedding]) - begin,
        last_stage=_size([net.norm, net.output]),
        training_only=begin,
        layer_adapters=0 if peft is None else peft.count_added(net.blocks),
        trained_outside=None if peft is None else _size([steering]),
    )


def usual_clip(config: ARConfig, tokenizer: LatentGrid) -> Size3:
    """Return the largest usual size of a training video, in pixels, that a network takes.

    A network of fewer latent frames, such as one of an early stage, takes a shorter video.
    """
    num_frames, height, width = PUBLISHED_CLIP_THW
    _, rows, columns = grid_of(PUBLISHED_CLIP_THW, tokenizer)
    if rows > config.max_height or columns > config.max_width:
        return NANO_CLIP_THW
    most = 1 + (config.max_frames - 1) * tokenizer.temporal_factor
    return min(num_frames, most), height, width


def grid_of(clip_thw: Size3, tokenizer: LatentGrid) -> Grid:
    """Return latent frames, rows and columns of a clip that the tokenizer takes."""
    num_frames, height, width = clip_thw
    return (
        1 + (num_frames - 1) // tokenizer.temporal_factor,
        height // tokenizer.spatial_factor,
        width // tokenizer.spatial_factor,
    )


def _size(modules: Iterable[nn.Module]) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())
