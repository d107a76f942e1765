"""The codes of the videos that are being decoded: known, guessed, and to come.

Shape suffixes: B videos, L places in a row, P places of a video.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.platform import upload


class Sequences:
    """Codes of a batch of videos, each with a number of its own that is known and wanted.

    Args:
        given: the given codes of each video, (n,).
        totals: number of codes of each video.
        begin_id: the token that stands before the first code; None where there is none.
        spare: places behind a video's end that guesses may be written to.
        num_codes: size of the codebook.
        device: where the codes are.

    Raises:
        ConfigError: nothing is given and there is no token of the beginning, more is given than
            wanted, or a code is outside the codebook.
    """

    def __init__(
        self,
        given: Sequence[Tensor],
        totals: Sequence[int],
        *,
        begin_id: int | None,
        spare: int,
        num_codes: int,
        device: torch.device,
    ) -> None:
        least = 0 if begin_id is not None else 1
        for codes, total in zip(given, totals, strict=True):
            if not least <= len(codes) <= total:
                raise ConfigError(
                    f"{len(codes)} codes are given of a video of {total}; this model takes "
                    f"{least} to {total}. Give fewer frames, or ask for a longer video."
                )
            if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < num_codes:
                raise ConfigError(
                    f"The given codes run from {int(codes.min())} to {int(codes.max())}, but the "
                    f"model's codebook has 0 to {num_codes - 1}. They come from another tokenizer."
                )
        self.totals = list(totals)
        self.known = [len(codes) for codes in given]
        self.guessed = list(self.known)
        self._has_begin = begin_id is not None
        # One place more in front, for the token of the beginning.
        shape = (len(given), 1 + max(totals) + spare)
        self._store = torch.zeros(shape, dtype=torch.int64, device=device)
        self._store[:, 0] = begin_id or 0
        for row, codes in zip(self._store, given, strict=True):
            row[1 : 1 + len(codes)] = codes

    @property
    def remaining(self) -> list[int]:
        """Number of codes that each video lacks."""
        return [total - known for total, known in zip(self.totals, self.known, strict=True)]

    def places(self, num_places: int) -> Tensor:
        """Return the numbers of the next places, (B, L)."""
        first_B1 = upload(torch.tensor(self.known), self._store.device)[:, None]
        return first_B1 + torch.arange(num_places, device=self._store.device)

    def tokens_before(self, places_BL: Tensor) -> Tensor:
        """Return the token before each place, known or guessed."""
        return self._store.gather(1, places_BL)

    def codes_at(self, places_BL: Tensor) -> Tensor:
        """Return the code at each place, known or guessed."""
        return self._store.gather(1, places_BL + 1)

    def write(self, places_BL: Tensor, codes_BL: Tensor) -> None:
        """Write codes, known or guessed."""
        self._store.scatter_(1, places_BL + 1, codes_BL)

    def accept(self, paths: Sequence[Sequence[int]], drawn_BL: Tensor) -> None:
        """Write the codes that became final.

        Args:
            paths: numbers of a row's codes for each video, in the order of its next places.
            drawn_BL: what was drawn.
        """
        for row, known, path, drawn_L in zip(self._store, self.known, paths, drawn_BL, strict=True):
            row[1 + known : 1 + known + len(path)] = drawn_L[list(path)]
        self.known = [known + len(path) for known, path in zip(self.known, paths, strict=True)]

    def codes(self, video: int) -> Tensor:
        """Return all codes of a video with their places, to look guesses up and write them."""
        return self._store[video, 1:]

    def results(self) -> list[Tensor]:
        """Return the codes of each video, all of which are known."""
        return [row[1 : 1 + total] for row, total in zip(self._store, self.totals, strict=True)]
