"""Memory of a training step on one GPU, by kind.

The model's family counts what one layer keeps for the backward pass; here that becomes the memory
of a layout. Attention keeps no scores (flash attention computes them again), so recomputing
attention alone ("selective") saves next to nothing. "Full" keeps each layer's input, and one
layer's activations while its backward pass runs; "block" does so for some of a stage's layers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from nemo_cosmos.models.common.costs import Workload, token_bytes
from nemo_cosmos.planning.hardware import CONTEXT_BYTES
from nemo_cosmos.planning.layout import RECOMPUTE_MODES, ParallelLayout


@dataclass(frozen=True)
class Memory:
    """Bytes on the fullest GPU.

    Attributes:
        weights: weights that the forward pass computes with.
        gradients: accumulated gradients.
        optimizer: master weights and moments.
        ema: averaged weights.
        activations: tensors kept for the backward pass.
        buffers: temporary tensors: gradients of activations, weights gathered by FSDP.
        context: CUDA, NCCL and their workspaces.
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


def memory(workload: Workload, layout: ParallelLayout) -> Memory:
    """Estimate the memory of the fullest GPU.

    Under the distributed optimiser weights and gradients are whole on every data-parallel rank;
    the optimiser's state and the average are split. Under FSDP all of them are split.
    """
    precision, parameters = workload.precision, workload.parameters
    held = parameters.on_stage(layout.tp, layout.pp)
    trained = parameters.trained_on_stage(layout.tp, layout.pp)
    state_ranks = layout.state_ranks if layout.fsdp else 1
    gathered = 0.0
    if layout.fsdp:  # one layer's weights at work, the next on its way, one layer's gradients
        layer = parameters.layer_sharded / layout.tp + parameters.layer_replicated
        stepped = layer if parameters.trained_outside is None else parameters.layer_adapters
        gathered = 2 * layer * precision.compute_bytes + stepped * precision.gradient_bytes
    return Memory(
        weights=held * precision.compute_bytes / state_ranks,
        gradients=trained * precision.gradient_bytes / state_ranks,
        optimizer=trained * precision.optimizer_bytes / layout.state_ranks,
        ema=trained * precision.ema_bytes / layout.state_ranks,
        activations=activation_bytes(workload, layout),
        buffers=gathered + workload.working_bytes(layout.split),
        context=CONTEXT_BYTES,
    )


def activation_bytes(workload: Workload, layout: ParallelLayout) -> float:
    """Return the bytes that autograd keeps on the first pipeline stage, which holds the most.

    The first of p stages has run min(p, m) micro-batches before the first backward pass ends.
    """
    split = layout.split
    layers = workload.num_layers // layout.pp
    in_flight = min(layout.pp, layout.num_micro_batches)
    whole = workload.layer_bytes(split)
    if layout.recompute == "full":
        group = workload.recompute_group
        kept = layers / group * token_bytes(workload, split) * in_flight + group * whole
    else:
        # The first layers of a stage are recomputed: when their turn comes, the others are done.
        again = layout.num_recomputed if layout.recompute == "block" else 0
        kept = ((layers - again) * whole + again * token_bytes(workload, split)) * in_flight
    return kept + workload.end_bytes(split) * in_flight


def by_recomputation(workload: Workload, layout: ParallelLayout) -> dict[str, float]:
    """Return the bytes of activations under each recomputation mode of a layout, and its own."""
    found = {
        mode: activation_bytes(workload, replace(layout, recompute=mode))
        for mode in RECOMPUTE_MODES
    }
    if layout.recompute not in found:
        found[layout.recompute] = activation_bytes(workload, layout)
    return found
