"""The box of a latent video that a context-parallel rank holds.

Each rank holds a box of the token grid, and all boxes are equal. The number of ranks is factored
into primes, and each prime cuts an axis that it divides: time first, then height, then width. Such
an axis exists for every prime, and for all of them together, exactly if the number of ranks divides
the number of tokens. A box is a smaller latent video, so the network, the noise and the loss treat
it as one; only the position embeddings need its place in the whole.

Batch, noise and conditions are cut once, where the data step hands them on, and never again.

Shape suffixes: B batch, C channels, T latent frames, H W latent rows and columns, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding

Size3 = tuple[int, int, int]
LISTED_SIZES = range(1, 65)
"""Numbers of ranks that an error names, where they are legal."""


@dataclass(frozen=True)
class LatentBox:
    """A box of a latent video.

    Attributes:
        whole_thw: frames, rows and columns of the latent.
        start_thw: the box's first frame, row and column.
        size_thw: frames, rows and columns of the box.
        patch_thw: frames, rows and columns of a token.
    """

    whole_thw: Size3
    start_thw: Size3
    size_thw: Size3
    patch_thw: Size3

    @classmethod
    def of(cls, whole_thw: Sequence[int], patch_thw: Size3, num_parts: int, part: int) -> Self:
        """Return one of ``num_parts`` equal boxes.

        Args:
            whole_thw: frames, rows and columns of the latent; multiples of the patch.
            patch_thw: frames, rows and columns of a token.
            num_parts: number of context-parallel ranks.
            part: this rank's number among them.

        Raises:
            ConfigError: the tokens do not divide; names the numbers of ranks that do.
        """
        grid = [size // patch for size, patch in zip(whole_thw, patch_thw, strict=True)]
        cuts = cuts_of(grid, num_parts)
        place = (part // (cuts[1] * cuts[2]), part // cuts[2] % cuts[1], part % cuts[2])
        size = [size // cut for size, cut in zip(whole_thw, cuts, strict=True)]
        start = [index * length for index, length in zip(place, size, strict=True)]
        return cls(_size3(whole_thw), _size3(start), _size3(size), patch_thw)

    @classmethod
    def whole(cls, size_thw: Sequence[int]) -> Self:
        """Return the box that is the whole latent."""
        size = _size3(size_thw)
        return cls(size, (0, 0, 0), size, (1, 1, 1))

    @property
    def origin_thw(self) -> Size3:
        """The first token along each axis: where position embeddings begin to count."""
        pairs = zip(self.start_thw, self.patch_thw, strict=True)
        return _size3([start // patch for start, patch in pairs])

    def cut(self, x_BCTHW: Tensor) -> Tensor:
        """Cut a tensor over the whole latent; an axis of length 1 counts for all positions."""
        for axis, (whole, start, size) in enumerate(self._axes(), start=x_BCTHW.dim() - 3):
            if x_BCTHW.shape[axis] == whole:
                x_BCTHW = x_BCTHW.narrow(axis, start, size)
        return x_BCTHW.contiguous()

    def whole_views(self, num_views: int) -> range:
        """Return the views that the box holds, where it holds whole ones or lies within one.

        Raises:
            ConfigError: it holds parts of several views, which have texts of their own.
        """
        length, first, size = self.whole_thw[0] // num_views, self.start_thw[0], self.size_thw[0]
        views = range(first // length, (first + size - 1) // length + 1)
        if len(views) > 1 and (first % length or size % length):
            raise ConfigError(
                f"Context parallelism would cut {num_views} views of {length} latent frames into "
                f"boxes of {size}, but each view has a text of its own. Set "
                f"context_parallel_size to a divisor or a multiple of {num_views}, or give one "
                "text for all views."
            )
        return views

    def cut_frames(self, x_BTD: Tensor) -> Tensor:
        """Cut a tensor with a value for each latent frame, or for all of them."""
        if x_BTD.shape[1] != self.whole_thw[0]:
            return x_BTD
        return x_BTD.narrow(1, self.start_thw[0], self.size_thw[0])

    def cut_padding(self, padding_mask_B1HW: Tensor) -> Tensor:
        """Cut a padding mask of any resolution, scaled to that of the latent."""
        mask_B1HW = F.interpolate(padding_mask_B1HW.float(), size=self.whole_thw[1:])
        return self.cut(mask_B1HW[:, :, None])[:, :, 0]

    def cut_tokens(self, tokens_BDthw: Tensor) -> Tensor:
        """Cut a tensor with a value for each token of the whole latent."""
        for axis, ((_, start, size), patch) in enumerate(
            zip(self._axes(), self.patch_thw, strict=True), start=2
        ):
            tokens_BDthw = tokens_BDthw.narrow(axis, start // patch, size // patch)
        return tokens_BDthw.contiguous()

    def cut_control(self, embedding: ControlEmbedding) -> ControlEmbedding:
        """Cut what a control adds to the latent and to the noise level; its context stays whole."""
        latent, timestep = embedding.latent_channels_BCTHW, embedding.timestep_BTD
        lora, tokens = embedding.adaln_lora_BT3D, embedding.tokens_BDthw
        base = embedding.change_base_BCTHW
        return replace(
            embedding,
            latent_channels_BCTHW=None if latent is None else self.cut(latent),
            timestep_BTD=None if timestep is None else self.cut_frames(timestep),
            adaln_lora_BT3D=None if lora is None else self.cut_frames(lora),
            tokens_BDthw=None if tokens is None else self.cut_tokens(tokens),
            change_base_BCTHW=None if base is None else self.cut(base),
        )

    def loss_weight_B(self, num_counted_B: Tensor, num_counted_here_B: Tensor) -> Tensor:
        """Return the weight of this box's mean loss in that of the whole; all weights add up to 1.

        Args:
            num_counted_B: number of latent frames of the whole that count in the loss.
            num_counted_here_B: number of those in this box.
        """
        share = math.prod(self.size_thw[1:]) / math.prod(self.whole_thw[1:])
        return num_counted_here_B / num_counted_B.clamp(min=1) * share

    def join(self, x_BCTHW: Tensor, group: dist.ProcessGroup) -> Tensor:
        """Join the boxes of all ranks, on each of them."""
        boxes = [torch.empty_like(x_BCTHW) for _ in range(group.size())]
        dist.all_gather(boxes, x_BCTHW.contiguous(), group=group)
        whole = x_BCTHW.new_empty(*x_BCTHW.shape[:2], *self.whole_thw)
        for part, box in enumerate(boxes):
            place = LatentBox.of(self.whole_thw, self.patch_thw, group.size(), part)
            slices = [slice(start, start + size) for _, start, size in place._axes()]
            whole[:, :, slices[0], slices[1], slices[2]] = box
        return whole

    def _axes(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.whole_thw, self.start_thw, self.size_thw, strict=True)


def cuts_of(grid_thw: Sequence[int], num_parts: int) -> Size3:
    """Return the number of parts that each axis of a token grid is cut into.

    Raises:
        ConfigError: the tokens do not divide into ``num_parts``; names the numbers that do.
    """
    left, cuts = list(grid_thw), [1, 1, 1]
    for prime in _primes(num_parts):
        axis = next((axis for axis in range(3) if left[axis] % prime == 0), None)
        if axis is None:
            tokens = math.prod(grid_thw)
            legal = [size for size in LISTED_SIZES if tokens % size == 0]
            raise ConfigError(
                f"A latent of {tokens} tokens ({' x '.join(map(str, grid_thw))}) does not divide "
                f"over {num_parts} context-parallel ranks. Set context_parallel_size to one of "
                f"{legal}, or choose another length or size of video."
            )
        left[axis] //= prime
        cuts[axis] *= prime
    return _size3(cuts)


def _primes(number: int) -> Iterator[int]:
    """Prime factors, the largest first: they are the hardest to place."""
    factors, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return iter(factors[::-1])


def _size3(values: Sequence[int]) -> Size3:
    time, height, width = (int(value) for value in values)
    return time, height, width
