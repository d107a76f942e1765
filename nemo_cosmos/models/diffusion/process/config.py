"""Settings of the diffusion process that training and inference must share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.edm import EDMConfig
from nemo_cosmos.options import build_from_file, check_record


@dataclass(frozen=True)
class DiffusionConfig:
    """The settings of the process that training and inference must share.

    Attributes:
        edm: constants of the diffusion process.
        conditioning: how text, given frames and controls are drawn in training.
    """

    edm: EDMConfig = field(default_factory=EDMConfig)
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)

    def to_dict(self) -> dict[str, object]:
        """Return plain data for ``config.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild the configuration from plain data.

        Raises:
            ConfigError: a name that is unknown or missing, or an impossible value.
        """
        sections = {"edm": EDMConfig, "conditioning": ConditioningConfig}
        check_record(data, "process", sections, required=sections)
        return cls(
            edm=build_from_file(EDMConfig, _with_later_fields(data["edm"]), "process.edm"),
            conditioning=build_from_file(
                ConditioningConfig, data["conditioning"], "process.conditioning"
            ),
        )


def _with_later_fields(edm: object) -> object:
    """Add the fields that worlds of earlier releases lack, as they were trained."""
    return {"motion_weight": 0.0, **edm} if isinstance(edm, Mapping) else edm
