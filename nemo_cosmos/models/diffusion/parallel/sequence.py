"""The layers' inputs under sequence parallelism.

Shape suffixes: L tokens, B batch, T latent frames or 1, E model width.
"""

from __future__ import annotations

import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.megatron.sequence_parallel import SequenceParallel
from nemo_cosmos.models.diffusion.network.layer_inputs import LayerInputs


def own_layer_inputs(c: LayerInputs, sequence: SequenceParallel) -> LayerInputs:
    """Keep what belongs to this rank's tokens.

    Rotary tables stay whole: attention gathers all tokens of a head.

    Args:
        c: inputs of the whole sequence.
        sequence: this rank's share of it.

    Raises:
        ConfigError: tokens, context or frames do not divide over the ranks.
    """
    if not sequence.is_on:
        return c
    if c.row_L is not None:
        c = c._replace(row_L=sequence.chunk(c.row_L))
    else:
        c = c._replace(
            activated_TBE=_own_frames(c.activated_TBE, sequence),
            shared_TB3E=_own_frames(c.shared_TB3E, sequence),
        )
    return c._replace(
        # A plain slice: what embeds controls sums its gradients over the ranks.
        added_LBE=None if c.added_LBE is None else sequence.chunk(c.added_LBE),
        position_L1E=None if c.position_L1E is None else sequence.scatter(c.position_L1E),
        context_MBC=None if c.context_MBC is None else _own_context(c.context_MBC, sequence),
    )


def _own_context(context_MBC: torch.Tensor, sequence: SequenceParallel) -> torch.Tensor:
    """This rank's context tokens; a plain slice, for a control may have made some of them."""
    sequence.check_divides(context_MBC.shape[0])
    return sequence.chunk(context_MBC)


def _own_frames(x_TBE: torch.Tensor, sequence: SequenceParallel) -> torch.Tensor:
    """The frames whose tokens this rank holds; one value for the video stays."""
    num_frames = x_TBE.shape[0]
    if num_frames == 1:
        return x_TBE
    if num_frames % sequence.num_ranks:
        raise ConfigError(
            f"With a noise level for each frame, {num_frames} latent frames do not divide over "
            f"{sequence.num_ranks} sequence-parallel ranks. Turn sequence_parallel off, or choose "
            "a number of frames that divides."
        )
    return sequence.chunk(x_TBE)
