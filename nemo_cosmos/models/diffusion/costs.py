"""What a training step of a diffusion world model costs: the family's figures for the planner.

Elementwise work is counted in passes over all tokens of the width E, in the order of the layer.
Compiled, forward: position, residual and modulation 4 + 4 + 4 (read
both, write both), the last residual 3, norms of queries and keys 6, rotation 4, GELU 8, copies of
values 2, the rest 2. Backward, with the sums for gates, shifts and scales: 9 + 10 + 10, 5, 15, 4,
12, the parts of q, k and v joined 6, the rest 4. As plain formulas, in float32, they are what
``tests/unit/planning/test_elementwise.py`` counts, operator by operator.

Activations are what autograd keeps for the backward pass. They are counted from the layer as it is
written (``network/layers.py``), in values of the model width E for each token:

- every sub-layer: its input, the input modulated, and the update before its gate, 3, split over the
  tokens by sequence parallelism (the backward pass normalises the input again);
- self-attention: q, k and v 3, q and k turned by the rotary embedding 2, the output 1, split over
  heads;
- cross-attention: q before and after its norm 2, the output 1, split over heads;
- feed-forward: F / E before and after the GELU, split over F.

With F = 4 E that is 26 E a token and layer; the paper's estimate (section 5.2) counts 15. The text
adds 3 E a text token in every layer. No attention keeps L x L scores: the flash attention of a GPU
and that of a CPU (``platform/kernels.py``) compute them again in the backward pass.
``tests/unit/planning/test_memory.py`` compares all this with the bytes that autograd keeps.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from torch import nn

from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import ConfigError, WrongFrameCountError, WrongSizeError
from nemo_cosmos.models.common.attention.context_parallel import DEFAULT_KIND
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
from nemo_cosmos.models.common.megatron.fp8 import check_fp8_tokens
from nemo_cosmos.models.diffusion.build import build_embedders
from nemo_cosmos.models.diffusion.controls import TokenizerFacts
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.flops import dit_flops
from nemo_cosmos.models.diffusion.network.inputs import token_grid
from nemo_cosmos.models.diffusion.parallel.divisibility import Sharing
from nemo_cosmos.models.diffusion.process.edm import LogVariance
from nemo_cosmos.platform import install_cpu_backend
from nemo_cosmos.platform.distributed import single_process_groups

if TYPE_CHECKING:
    from nemo_cosmos.models.common.megatron.module import Peft

WIDE_VALUES = 3
"""Kept values of the width E a token and sub-layer, outside the attention heads."""
SELF_ATTENTION_VALUES = 6
CROSS_ATTENTION_VALUES = 3
TEXT_VALUES = 3
"""Kept values of the width E a text token and layer: keys, normalised keys, values."""
FINAL_VALUES = 2
"""Input and modulated input of the output layer."""

COMPILED = Elementwise(37, 75, forward_kernels=32, backward_kernels=70)
PLAIN = Elementwise(234, 390, forward_kernels=134, backward_kernels=177)
PLAIN_WIDE_VALUES = {2: 7, 4: 4}
"""As ``WIDE_VALUES``, of the plain formulas, by bytes of a value: they keep float32."""
PLAIN_SELF_ATTENTION_VALUES = {2: 14, 4: 8}
PLAIN_CROSS_ATTENTION_VALUES = {2: 6, 4: 4}
PLAIN_FINAL_VALUES = {2: 5, 4: 3}

PAPER_STATE_BYTES = 10 + 2 + 8
"""Bytes a parameter of the paper: weights with their copies, gradient, moments (section 5.2)."""
PAPER_ACTIVATION_VALUES = 15
"""Values of the width E a token and layer that the paper counts, of 2 bytes each."""

PUBLISHED_CLIP_THW: Size3 = (121, 704, 1280)
"""Frames, height and width that the published models were trained on last."""
NANO_CLIP_THW: Size3 = (17, 96, 128)
"""The same of the quickstart, for networks that do not take the published size."""
MULTIVIEW_CLIP_THW: Size3 = (57, 480, 848)
"""The same of each camera of the published multi-view models."""
MULTIVIEW_VIEWS = 6
"""Their cameras."""


@dataclass(frozen=True)
class DiffusionWorkload:
    """One training step of a diffusion transformer.

    Attributes:
        config: the network's configuration; its parallel sizes do not matter here.
        latent_thw: latent frames of all views, rows and columns of a sample.
        num_text_tokens: tokens of the text embedding.
        micro_batch_size: samples of a forward pass.
        global_batch_size: samples of an optimiser step.
        precision: bytes by use.
        noise_levels: noise levels of a sample: 1, or the number of latent frames (with a control).
        packed: whether samples are packed.
        other_latents_thw: further sizes of samples, which have to divide over ranks, too.
        controls: what steers the model.
        tokenizer: factors of the tokenizer that makes its latents.
        learned_variance: whether training learns the variance of the loss.
        peft: what is trained instead of all weights.
    """

    config: DiTConfig
    latent_thw: Size3
    num_text_tokens: int
    micro_batch_size: int
    global_batch_size: int
    precision: Precision
    noise_levels: int = 1
    packed: bool = False
    other_latents_thw: tuple[Size3, ...] = ()
    controls: tuple[ControlSpec, ...] = ()
    tokenizer: TokenizerFacts | None = None
    learned_variance: bool = False
    peft: Peft | None = None

    @cached_property
    def parameters(self) -> ParameterCounts:
        """The network's parameters by place."""
        return count_parameters(
            self.config, self.controls, self.learned_variance, self.tokenizer, self.peft
        )

    @property
    def num_tokens(self) -> int:
        """Tokens of one sample."""
        frames, rows, columns = self.latent_thw
        return frames * rows * columns // self.config.patch_volume

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
        """Self-attention, cross-attention and the feed-forward network."""
        return 3

    @property
    def elementwise(self) -> Elementwise:
        """What a layer does between its products."""
        return COMPILED if self.is_fused else PLAIN

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
    ) -> DiffusionWorkload:
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
        parts = dit_flops(
            self.config, self.latent_thw, self.num_text_tokens, noise_levels=self.noise_levels
        )
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
        sharing = Sharing.of(config, self.noise_levels > 1)
        if self.packed:
            sharing.check_packs()
        latents = () if self.packed else (self.latent_thw, *self.other_latents_thw)
        grids = [token_grid(size, self.config, self.config.max_views) for size in latents]
        sharing.check(grids, self.num_text_tokens)
        if self.precision.fp8:
            config.fp8, config.fp8_recipe = "hybrid", self.precision.fp8_recipe
            for grid in grids:
                num_tokens = math.prod(grid) // (split.cp * split.tp)
                check_fp8_tokens(config, num_tokens * self.micro_batch_size, "tokens of video")
            num_text_tokens = self.num_text_tokens // split.tp
            check_fp8_tokens(config, num_text_tokens * self.micro_batch_size, "tokens of text")

    def layer_bytes(self, split: Split) -> float:
        """Return the bytes that one layer keeps for one micro-batch without recomputation."""
        size = self.precision.compute_bytes
        wide, attention = WIDE_VALUES, SELF_ATTENTION_VALUES + CROSS_ATTENTION_VALUES
        if not self.is_fused:
            wide = PLAIN_WIDE_VALUES[size]
            attention = PLAIN_SELF_ATTENTION_VALUES[size] + PLAIN_CROSS_ATTENTION_VALUES[size]
        # Without sequence parallelism (tp = 1 here) the wide values are whole.
        values = self.sublayers * wide + attention + 2 * self._ffn_ratio
        tokens = values * token_bytes(self, split)
        text = TEXT_VALUES * self.num_text_tokens * self.hidden_size / split.tp
        return tokens + text * self.micro_batch_size * self.precision.compute_bytes

    def end_bytes(self, split: Split) -> float:
        """Return the bytes of patches, position, rotary tables and output layer."""
        config = self.config
        tokens = self.num_tokens / split.cp
        head_dim = self.hidden_size // self.num_heads
        patches = config.input_channels * config.patch_volume * self.precision.compute_bytes
        rotary = head_dim * 4  # cosine and sine of half the channels, float32
        position = 0.0
        if config.extra_pos_emb:  # the tables' sum, and the normalised embedding that layers share
            position = 2 * tokens * self.hidden_size * self.precision.compute_bytes
        final = FINAL_VALUES
        if not self.is_fused:
            final = PLAIN_FINAL_VALUES[self.precision.compute_bytes]
        output = final * token_bytes(self, split) if split.pp == 1 else 0.0
        return tokens * self.micro_batch_size * (patches + rotary) + position + output

    def working_bytes(self, split: Split) -> float:
        """Return what is alive at once in the backward pass of the feed-forward network.

        Gradients of what it keeps, and its input normalised again.
        """
        return (2 * self._ffn_ratio + WIDE_VALUES + 1) * token_bytes(self, split)

    def describe(self) -> dict[str, object]:
        """Return what the plan's JSON says of the samples."""
        return {"latent_thw": list(self.latent_thw), "tokens_per_sample": self.num_tokens}

    def published_bytes(self) -> dict[str, float]:
        """Return the paper's estimate: 20 bytes a parameter, 2 x 15 E bytes a token and layer."""
        values = self.num_layers * PAPER_ACTIVATION_VALUES * self.num_tokens * self.hidden_size
        return {
            "model_state": float(self.parameters.network * PAPER_STATE_BYTES),
            "activation": 2.0 * values,
        }

    @property
    def _ffn_ratio(self) -> float:
        return (self.config.ffn_hidden_size or 4 * self.hidden_size) / self.hidden_size


def count_parameters(
    config: DiTConfig,
    controls: Sequence[ControlSpec] = (),
    learned_variance: bool = False,
    tokenizer: TokenizerFacts | None = None,
    peft: Peft | None = None,
) -> ParameterCounts:
    """Build the network with one layer on torch's meta device, without memory, and count it.

    Args:
        config: the network's configuration, however it is spread over ranks.
        controls: what steers the model.
        tokenizer: factors of the tokenizer that makes its latents.
        learned_variance: whether training learns the variance of the loss.
        peft: what is trained instead of all weights.
    """
    install_cpu_backend()
    num_layers = config.num_layers
    config = DiTConfig.from_architecture(
        {**config.architecture(), "num_layers": 1},  # all are alike
        use_cpu_initialization=True,
        perform_initialization=False,
        layer_spec="local",
    )
    with torch.device("meta"):
        net = DiT(config, pg_collection=single_process_groups())
        steering = build_embedders(controls, config, tokenizer)
        logvar = LogVariance() if learned_variance else None
    layer = net.blocks.layers[0]
    sharded = sum(
        _size([module])
        for module in layer.modules()
        if isinstance(module, ColumnParallelLinear | RowParallelLinear)
    )
    inside, last = _size([net.blocks]), _size([net.final_layer])
    first = _size([net.patch_embed, getattr(net, "view_embed", None)])
    return ParameterCounts(
        layers=num_layers,
        layer_sharded=sharded,
        layer_replicated=_size([layer]) - sharded,
        every_stage=_size([net, steering]) - inside - first - last,
        first_stage=first,
        last_stage=last,
        training_only=_size([logvar]),
        layer_adapters=0 if peft is None else peft.count_added(net.blocks),
        trained_outside=None
        if peft is None
        else _size([steering, getattr(net, "view_embed", None)]),
    )


def usual_clip(config: DiTConfig, tokenizer: LatentGrid) -> Size3:
    """Return the largest usual size of a training video, in pixels, that a network takes."""
    published = MULTIVIEW_CLIP_THW if config.view_slots else PUBLISHED_CLIP_THW
    frames, height, width = published
    fits = (
        1 + (frames - 1) // tokenizer.temporal_factor <= config.max_frames
        and height // tokenizer.spatial_factor <= config.max_height
        and width // tokenizer.spatial_factor <= config.max_width
    )
    return published if fits else NANO_CLIP_THW


def usual_views(config: DiTConfig) -> int:
    """Return the usual number of a training sample's cameras."""
    return MULTIVIEW_VIEWS if config.view_slots else 1


def latent_of(
    clip_thw: Size3, config: DiTConfig, tokenizer: LatentGrid, num_views: int = 1
) -> Size3:
    """Return latent frames, rows and columns of a clip that the tokenizer takes.

    Args:
        clip_thw: frames, height and width of each view.
        config: the network's configuration.
        tokenizer: the tokenizer of its latents.
        num_views: cameras of a sample, whose latents lie one after another in time.

    Raises:
        ConfigError: the network takes fewer views.
        WrongFrameCountError: the network does not take so many frames.
        WrongSizeError: the network does not take such a size.
    """
    if num_views > config.max_views:
        raise ConfigError(
            f"{num_views} views are more than the {config.max_views} that this network takes. Plan "
            "a *_multiview recipe, or fewer views (--num-views)."
        )
    num_frames, height, width = clip_thw
    frames = 1 + (num_frames - 1) // tokenizer.temporal_factor
    rows, columns = height // tokenizer.spatial_factor, width // tokenizer.spatial_factor
    if frames > config.max_frames:
        raise WrongFrameCountError(
            f"The video has {frames} latent frames, but the network takes up to "
            f"{config.max_frames}. Plan with fewer frames (--num-frames)."
        )
    if (
        rows > config.max_height
        or columns > config.max_width
        or (rows % config.patch_spatial or columns % config.patch_spatial)
    ):
        raise WrongSizeError(
            f"The latents are {rows}x{columns}, but the network takes multiples of "
            f"{config.patch_spatial} up to {config.max_height}x{config.max_width}. Plan with "
            "another --height or --width."
        )
    return num_views * frames, rows, columns


def _size(modules: Iterable[nn.Module | None]) -> int:
    return sum(p.numel() for module in modules if module for p in module.parameters())
