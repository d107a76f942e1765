"""Packs of samples of different length, size and aspect, as the diffusion network takes them.

Inside the network, samples are one sequence (``models.common.packed``). Outside, a pack is a list
of batches of one, so that the diffusion process treats a sample in a pack as it does any other.

Shape suffixes: B batch, L tokens of all samples of a pack, E model width, K values of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast, overload

import torch
from torch.nn import functional as F

from nemo_cosmos.batch import LatentBatch
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.megatron.fp8 import check_fp8_packs
from nemo_cosmos.models.common.packed import Packing, end_to_end, split_samples
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.network.layer_inputs import LayerInputs
from nemo_cosmos.platform import upload


class PackedDiT(DiT):
    """A diffusion transformer that takes packs, too."""

    @overload
    def forward(self, inputs: NetworkInput) -> torch.Tensor: ...

    @overload
    def forward(self, inputs: list[NetworkInput]) -> list[torch.Tensor] | torch.Tensor: ...

    def forward(
        self, inputs: NetworkInput | list[NetworkInput]
    ) -> torch.Tensor | list[torch.Tensor]:
        """Predict for samples of one shape, or for the samples of a pack.

        Args:
            inputs: samples of one shape; or a list with an input for each sample of a pack, a batch
                of one with its text, not its keys and values. Samples of a pack lie end to end in
                one sequence and do not see each other.

        Returns:
            As :meth:`DiT.forward`; for a pack a list with a prediction for each sample, or the
            tokens of all on a pipeline stage before the last.
        """
        if isinstance(inputs, NetworkInput):
            return super().forward(inputs)
        return self._forward_pack(inputs)

    def _forward_pack(self, samples: list[NetworkInput]) -> list[torch.Tensor] | torch.Tensor:
        check_fp8_packs(self.config)
        grids = [sample.token_grid(self.config) for sample in samples]
        lengths = [math.prod(grid) for grid in grids]
        num_padding = self.sequence.num_padding(sum(lengths))
        layer_inputs, packing = pack_layer_inputs(
            [self.embed_conditions(*each) for each in zip(samples, grids, strict=True)],
            lengths,
            num_padding,
        )
        x_L1E = None
        if self.pre_process:
            x_L1E = torch.cat([self.embed_latent(sample) for sample in samples])
            x_L1E = F.pad(x_L1E, (0, 0, 0, 0, 0, num_padding))
        out_L1K = self.run_layers(x_L1E, layer_inputs, packing=packing)
        if not self.post_process:
            return out_L1K
        outputs = out_L1K[: sum(lengths)].split(lengths)
        return [self.to_latent(*each) for each in zip(outputs, grids, samples, strict=True)]


def is_pack(batch: LatentBatch) -> bool:
    """Whether a batch holds samples of different shapes, as lists."""
    return not isinstance(batch.get("latent", torch.Tensor()), torch.Tensor)


def split_pack(batch: LatentBatch) -> list[LatentBatch]:
    """The samples of a pack, each as a batch of one."""
    return cast("list[LatentBatch]", split_samples(batch, "latent"))


def pack_layer_inputs(
    parts: Sequence[LayerInputs], lengths: Sequence[int], num_padding: int = 0
) -> tuple[LayerInputs, Packing]:
    """Lay what the layers see of single samples end to end.

    Args:
        parts: the layers' inputs for each sample, B = 1.
        lengths: number of each sample's tokens.
        num_padding: number of tokens behind the last sample that belong to none.

    Returns:
        The layers' inputs for the pack, with as many modulation rows as its samples have together,
        and the samples' boundaries.

    Raises:
        ConfigError: a sample has several texts.
    """
    rows, row_lengths = [], []
    for part, length in zip(parts, lengths, strict=True):
        num_rows = max(part.activated_TBE.shape[0], part.shared_TB3E.shape[0])
        rows.append([x.expand(num_rows, -1, -1) for x in (part.activated_TBE, part.shared_TB3E)])
        row_lengths += [length // num_rows] * num_rows
    row_lengths[-1] += num_padding  # any row will do: nothing reads these tokens
    device = parts[0].rope_cos_LB1D.device
    added = [part.added_LBE for part in parts]
    contexts = [part.context_MBC for part in parts if part.context_MBC is not None]
    if any(context.shape[1] > 1 for context in contexts):
        raise ConfigError(
            "A sample with a text for each view cannot be packed. Train without data.packing, or "
            "give one text for all views."
        )
    layer_inputs = LayerInputs(
        activated_TBE=torch.cat([activated for activated, _ in rows]),
        shared_TB3E=torch.cat([shared for _, shared in rows]),
        rope_cos_LB1D=end_to_end([part.rope_cos_LB1D for part in parts], num_padding),
        rope_sin_LB1D=end_to_end([part.rope_sin_LB1D for part in parts], num_padding),
        position_L1E=(
            None
            if parts[0].position_L1E is None
            else end_to_end([part.position_L1E for part in parts], num_padding)
        ),
        context_MBC=torch.cat(contexts),
        row_L=upload(
            torch.arange(len(row_lengths)).repeat_interleave(torch.tensor(row_lengths)), device
        ),
        added_LBE=None if added[0] is None else end_to_end(added, num_padding),
    )
    packing = Packing.of(lengths, [len(context) for context in contexts], device, num_padding)
    return layer_inputs, packing
