"""What training and sampling of an autoregressive world have to agree on, beside the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from nemo_cosmos.options import Range, check_record, check_value

_FIELDS = ("condition_latents", "z_loss", "top_p")


@dataclass
class ARProcess:
    """Training of the next code, and the usual sampling.

    Attributes:
        condition_latents: latent frames at the beginning that are given and not learnt; a video of
            no more frames is learnt but for the first. 0 with a token of the beginning learns all.
        z_loss: weight of the squared logarithm of the softmax's normaliser, which keeps scores from
            drifting (the published code has 1e-4, the paper 3e-4).
        top_p: share of the probability that sampling keeps by default.
    """

    condition_latents: int = 1
    z_loss: float = 1e-4
    top_p: float = 0.9

    def __post_init__(self) -> None:
        check_value("condition_latents", self.condition_latents, int, Range(least=0))
        check_value("z_loss", self.z_loss, float, Range(least=0))
        check_value("top_p", self.top_p, float, Range(above=0, most=1))

    def to_dict(self) -> dict[str, object]:
        """Return plain data for ``config.json``."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote.

        Raises:
            ConfigError: a name is unknown or missing, or a value is impossible.
        """
        check_record(data, "process", _FIELDS, required=_FIELDS)
        return cls(**data)
