"""Guesses for places of a video that were never drawn."""

from __future__ import annotations

import torch

from nemo_cosmos.models.autoregressive.decoding.sequences import Sequences
from nemo_cosmos.models.autoregressive.network.places import Grid
from nemo_cosmos.models.autoregressive.options import DRAFT_NAMES
from nemo_cosmos.models.common.philox import philox

DRAFTS = DRAFT_NAMES
"""The same place in the frame before, the place above, the place before, any code, or a head's."""


class Drafts:
    """Guesses the code at a place from the codes before it; the video's own codes know most.

    Args:
        kind: one of :data:`DRAFTS`. Where there is no frame before, the row above is taken, and
            where there is none, the place before. Where heads guess, they guess the next places,
            and the frame before the others.
        grid_thw: latent frames, rows and columns of the videos.
        num_codes: size of the codebook.
    """

    def __init__(self, kind: str, grid_thw: Grid, num_codes: int) -> None:
        _, rows, columns = grid_thw
        before = (rows * columns, columns, 1)
        strides = {"frame": before, "heads": before, "row": (columns, 1), "last": (1,)}
        self.strides = strides.get(kind, ())
        self.num_codes = num_codes

    def fill(self, sequences: Sequences, num_places: int) -> None:
        """Write guesses wherever the next places have none."""
        for video, (known, guessed) in enumerate(
            zip(sequences.known, sequences.guessed, strict=True)
        ):
            codes = sequences.codes(video)
            place, end = max(known, guessed), known + num_places
            while place < end:
                place += self._fill_run(codes, place, end)
            sequences.guessed[video] = max(guessed, end)

    def _fill_run(self, codes: torch.Tensor, place: int, end: int) -> int:
        """Guess some places from one on; returns how many."""
        stride = next((size for size in self.strides if size <= place), 0)
        if not stride:
            return self._fill_any(codes, place, end)
        size = min(stride, end - place)  # further ones would look at places without a code
        codes[place : place + size] = codes[place - stride : place - stride + size]
        return size

    def _fill_any(self, codes: torch.Tensor, place: int, end: int) -> int:
        numbers = torch.arange(place, end, device=codes.device)
        zero = torch.zeros_like(numbers)
        codes[place:end] = philox((numbers, zero, zero, zero), 0)[0] % self.num_codes
        return end - place
