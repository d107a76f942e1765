"""Which videos divide over the ranks that share a sample: one rule for training and planning.

Context parallelism cuts the tokens into two chunks a rank
(:func:`~nemo_cosmos.models.common.attention.context_parallel.zigzag_order`); sequence parallelism
cuts a rank's tokens, and the text, evenly over the tensor-parallel ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.places import Grid, check_grid
from nemo_cosmos.models.common.megatron.fp8 import check_fp8_packs


def check_tokens(config: ARConfig, grids: Sequence[Grid], num_text_tokens: int) -> None:
    """Require all videos and texts to divide over the ranks of a layout.

    Args:
        config: the network's configuration, with the parallel sizes.
        grids: latent frames, rows and columns of all videos.
        num_text_tokens: tokens of a text embedding.

    Raises:
        ConfigError: tokens do not divide; names a multiple that does.
        WrongFrameCountError, WrongSizeError: the network does not take such a video.
    """
    cp = config.context_parallel_size
    sequence = config.tensor_model_parallel_size if config.sequence_parallel else 1
    multiple = (2 * cp if cp > 1 else 1) * sequence
    for grid in grids:
        num_tokens = check_grid(grid, config)
        if num_tokens % multiple:
            raise ConfigError(
                f"The data hold videos of {num_tokens} codes ({' x '.join(map(str, grid))}), which "
                f"do not divide over {cp} context-parallel ranks with two chunks each, of "
                f"{sequence} sequence-parallel ones. Training has not started. Tokenize to a size "
                f"whose codes are a multiple of {multiple}, or set trainer.strategy."
                "context_parallel_size=1 and sequence_parallel=false."
            )
    if config.context_channels and num_text_tokens % sequence:
        raise ConfigError(
            f"Text embeddings of {num_text_tokens} tokens do not divide over {sequence} "
            "sequence-parallel ranks. Set data.text_length to a multiple of "
            f"{sequence}, or sequence_parallel=false."
        )


def check_packs(config: ARConfig) -> None:
    """Refuse packs under context parallelism, and with attention in FP8.

    Raises:
        ConfigError: context-parallel ranks would have to share packs, or kernels that take videos
            of one length are asked for.
    """
    if config.context_parallel_size > 1:
        raise ConfigError(
            f"data.packing is set with {config.context_parallel_size} context-parallel ranks, but "
            "the videos of a pack are not split over ranks. Set "
            "trainer.strategy.context_parallel_size=1, or do not pack."
        )
    check_fp8_packs(config)
