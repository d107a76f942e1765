"""Which latents divide over the ranks that share a sample: one rule for training and planning.

Context parallelism gives every rank an equal box of the token grid
(:mod:`nemo_cosmos.models.diffusion.parallel.cp_box`). Sequence parallelism cuts the tokens of a
box, and the text, evenly over the tensor-parallel ranks; where every latent frame has its own noise
level, it cuts between frames. Transformer Engine's attention over context-parallel ranks cuts each
box in two, under any mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.megatron.layer_choice import chosen_layer_spec
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.parallel.cp_box import LISTED_SIZES, cuts_of


@dataclass(frozen=True)
class Sharing:
    """How many ranks share one sample.

    Attributes:
        context_parallel: number of ranks, each of which has a box of the latent.
        sequence_parallel: number of ranks that share a box's tokens; 1 without sequence
            parallelism.
        level_each_frame: whether every latent frame has a noise level of its own.
        even_boxes: whether a box needs an even number of tokens where there is more than one.
    """

    context_parallel: int = 1
    sequence_parallel: int = 1
    level_each_frame: bool = False
    even_boxes: bool = False

    @classmethod
    def of(cls, config: DiTConfig, level_each_frame: bool) -> Self:
        """Read the layout from a network's configuration, into which the strategy wrote it.

        Args:
            config: the network's configuration.
            level_each_frame: whether every latent frame has a noise level of its own.
        """
        sequence_parallel = config.tensor_model_parallel_size if config.sequence_parallel else 1
        even_boxes = chosen_layer_spec(config) == "transformer_engine"
        return cls(config.context_parallel_size, sequence_parallel, level_each_frame, even_boxes)

    def divides(self, grid_thw: Sequence[int]) -> bool:
        """Whether the tokens of a latent divide over the ranks.

        Args:
            grid_thw: the latent's tokens along time, height and width.
        """
        num_tokens = math.prod(grid_thw)
        if num_tokens % (self.context_parallel * self.sequence_parallel):
            return False
        is_cut = self.context_parallel > 1
        if is_cut and self.even_boxes and num_tokens // self.context_parallel % 2:
            return False
        num_frames = grid_thw[0] // cuts_of(grid_thw, self.context_parallel)[0]
        cuts_frames = num_frames > 1 and num_frames % self.sequence_parallel != 0
        return not (self.level_each_frame and cuts_frames)

    def check_packs(self) -> None:
        """Refuse packs under context parallelism.

        Raises:
            ConfigError: context-parallel ranks would have to share packs.
        """
        if self.context_parallel > 1:
            raise ConfigError(
                f"data.packing is set with {self.context_parallel} context-parallel ranks, but "
                "the samples of a pack are not split over ranks. Set "
                "trainer.strategy.context_parallel_size=1, or do not pack."
            )

    def check(self, grids: Sequence[Sequence[int]], num_text_tokens: int) -> None:
        """Require the training data to divide over the ranks.

        Args:
            grids: token grids (time, height, width) of all latents.
            num_text_tokens: number of tokens of a text embedding.

        Raises:
            ConfigError: a latent or the text does not divide; names the sizes that all divide over.
        """
        size = self.sequence_parallel
        if num_text_tokens % size:
            raise ConfigError(
                f"Text embeddings of {num_text_tokens} tokens do not divide over {size} "
                f"sequence-parallel ranks. Set data.text_length to a multiple of {size}, such "
                f"as {-(-num_text_tokens // size) * size}, or sequence_parallel=false."
            )
        for grid_thw in grids:
            if not self.divides(grid_thw):
                raise ConfigError(self._misfit(grid_thw, grids))

    def _divides_all(self, grids: Sequence[Sequence[int]]) -> bool:
        return all(map(self.divides, grids))

    def _misfit(self, grid_thw: Sequence[int], grids: Sequence[Sequence[int]]) -> str:
        ranks = f"{self.context_parallel} context-parallel ranks"
        if self.sequence_parallel > 1:
            ranks += f", of {self.sequence_parallel} sequence-parallel ones each"
        if self.level_each_frame and self.sequence_parallel > 1:
            ranks += " that must share whole frames"
        if self.context_parallel > 1 and self.even_boxes:
            ranks += " with an even number of tokens each, as Transformer Engine requires"
        context = [n for n in LISTED_SIZES if replace(self, context_parallel=n)._divides_all(grids)]
        sequence = [
            n for n in LISTED_SIZES if replace(self, sequence_parallel=n)._divides_all(grids)
        ]
        advice = [f"context_parallel_size to one of {context}"] if context else []
        if self.sequence_parallel > 1 and sequence:
            advice += [
                f"tensor_model_parallel_size to one of {sequence}",
                "sequence_parallel=false",
            ]
        return (
            f"The data hold latents of {math.prod(grid_thw)} tokens "
            f"({' x '.join(map(str, grid_thw))}), which do not divide over {ranks}. Training has "
            "not started. Tokenize to another length or size of video"
            f"{''.join(f', or set {setting}' for setting in advice)}."
        )
