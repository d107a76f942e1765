"""Memory of a training step on one GPU, by kind.

Activations are what autograd keeps for the backward pass. They are counted from the layer as it is
written (``models/diffusion/network/layers.py``), in values of the model width E for each token:

- every sub-layer: its input, the input modulated, and the update before its gate, 3, split over the
  tokens by sequence parallelism (the backward pass normalises the input once more);
- self-attention: q, k and v 3, q and k turned by the rotary embedding 2, the output 1, split over
  heads;
- cross-attention: q before and after its norm 2, the output 1, split over heads;
- feed-forward: F / E before and after the GELU, split over F.

With F = 4 E that is 26 E a token and layer; the paper's estimate (section 5.2) counts 15. The text
adds 3 E a text token in every layer. No attention keeps L x L scores: the flash attention of a GPU
and that of a CPU (``platform/kernels.py``) compute them again in the backward pass, so to recompute
attention alone ("selective") saves next to nothing. "Full" keeps each layer's input, and
one layer's activations while its backward pass runs. ``tests/unit/training/plan/test_memory.py``
compares all this with the bytes that autograd is seen to keep.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from nemo_cosmos.planning.hardware import CONTEXT_BYTES
from nemo_cosmos.planning.layout import Layout
from nemo_cosmos.planning.parameters import Parameters
from nemo_cosmos.planning.workload import Workload

WIDE_VALUES = 3
"""Kept values of the width E a token and sub-layer, outside the attention heads."""
SELF_ATTENTION_VALUES = 6
CROSS_ATTENTION_VALUES = 3
TEXT_VALUES = 3
"""Kept values of the width E a text token and layer: keys, normalised keys, values."""
FINAL_VALUES = 2
"""Input and modulated input of the output layer."""

PAPER_STATE_BYTES = 10 + 2 + 8
"""Bytes a parameter of the paper: weights with their copies, gradient, moments (section 5.2)."""
PAPER_ACTIVATION_VALUES = 15
"""Values of the width E a token and layer that the paper counts, of 2 bytes each."""


@dataclass(frozen=True)
class Memory:
    """Bytes on the fullest GPU.

    Attributes:
        weights: that the forward pass computes with.
        gradients: accumulated.
        optimizer: master weights and moments.
        ema: the averaged weights.
        activations: kept for the backward pass.
        buffers: temporary: gradients of activations, weights gathered by FSDP.
        context: of CUDA and NCCL.
    """

    weights: float
    gradients: float
    optimizer: float
    ema: float
    activations: float
    buffers: float
    context: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(asdict(self).values())


def memory(workload: Workload, parameters: Parameters, layout: Layout) -> Memory:
    """Estimate the memory of the fullest GPU.

    Under the distributed optimiser weights and gradients are whole on every data-parallel process
    and the optimiser's state is split; the average is whole. Under FSDP all of them are split.
    """
    precision, held = workload.precision, parameters.on_stage(layout.tp, layout.pp)
    state_shards = layout.shards if layout.fsdp else 1
    gathered = 0.0
    if layout.fsdp:  # one layer's weights at work, the next on its way, one layer's gradients
        layer = parameters.layer_sharded / layout.tp + parameters.layer_replicated
        gathered = layer * (2 * precision.compute_bytes + precision.gradient_bytes)
    return Memory(
        weights=held * precision.compute_bytes / state_shards,
        gradients=held * precision.gradient_bytes / state_shards,
        optimizer=held * precision.optimizer_bytes / layout.shards,
        ema=held * precision.ema_bytes / state_shards,
        activations=activation_bytes(workload, layout),
        buffers=gathered + _working_bytes(workload, layout),
        context=CONTEXT_BYTES,
    )


def activation_bytes(workload: Workload, layout: Layout) -> float:
    """Bytes that autograd keeps on the first pipeline stage, which holds the most.

    The first of p stages has run min(p, m) micro-batches before the first backward pass ends.
    """
    layers = workload.config.num_layers // layout.pp
    in_flight = min(layout.pp, layout.num_micro_batches)
    whole = layer_activation_bytes(workload, layout)
    if layout.recompute == "full":
        group = workload.config.recompute_num_layers or 1
        kept = layers / group * _token_bytes(workload, layout) * in_flight + group * whole
    else:
        kept = layers * whole * in_flight
    return kept + _end_bytes(workload, layout) * in_flight


def layer_activation_bytes(workload: Workload, layout: Layout) -> float:
    """Bytes that one layer keeps for one micro-batch without recomputation."""
    config = workload.config
    ffn = (config.ffn_hidden_size or 4 * config.hidden_size) / config.hidden_size
    heads = SELF_ATTENTION_VALUES + CROSS_ATTENTION_VALUES + 2 * ffn
    # Without sequence parallelism (tp = 1 here) the wide values are whole.
    tokens = (3 * WIDE_VALUES + heads) * _token_bytes(workload, layout)
    text = TEXT_VALUES * workload.num_text_tokens * config.hidden_size / layout.tp
    return tokens + text * workload.micro_batch_size * workload.precision.compute_bytes


def by_recomputation(workload: Workload, layout: Layout) -> dict[str, float]:
    """Bytes of activations under each recomputation mode, the rest of the layout as it is."""
    return {
        mode: activation_bytes(workload, replace(layout, recompute=mode))
        for mode in ("none", "selective", "full")
    }


def paper_activation_bytes(workload: Workload) -> float:
    """The paper's estimate for one sample: 2 bytes x layers x 15 x tokens x width."""
    config = workload.config
    return (
        2.0
        * config.num_layers
        * PAPER_ACTIVATION_VALUES
        * (workload.num_tokens * config.hidden_size)
    )


def _token_bytes(workload: Workload, layout: Layout) -> float:
    """Bytes of one value of the width E for every token that this process holds."""
    tokens = workload.num_tokens * workload.micro_batch_size / (layout.cp * layout.tp)
    return tokens * workload.config.hidden_size * workload.precision.compute_bytes


def _end_bytes(workload: Workload, layout: Layout) -> float:
    """Bytes kept outside the layers: patches, position, rotary tables and output layer."""
    config = workload.config
    tokens = workload.num_tokens / layout.cp
    head_dim = config.hidden_size // config.num_attention_heads
    patches = config.input_channels * config.patch_volume * workload.precision.compute_bytes
    rotary = head_dim * 4  # cosine and sine of half the channels, float32
    position = 0.0
    if config.extra_pos_emb:  # the tables' sum, and the normalised embedding that layers share
        position = 2 * tokens * config.hidden_size * workload.precision.compute_bytes
    output = FINAL_VALUES * _token_bytes(workload, layout) if layout.pp == 1 else 0.0
    return tokens * workload.micro_batch_size * (patches + rotary) + position + output


def _working_bytes(workload: Workload, layout: Layout) -> float:
    """What is alive at once in the backward pass of the feed-forward network.

    Gradients of what it keeps, and its input normalised once more.
    """
    config = workload.config
    ffn = (config.ffn_hidden_size or 4 * config.hidden_size) / config.hidden_size
    return (2 * ffn + WIDE_VALUES + 1) * _token_bytes(workload, layout)
