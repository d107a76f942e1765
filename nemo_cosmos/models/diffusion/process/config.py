"""Settings of the diffusion process that training and inference must share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.edm import EDMConfig


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
            ConfigError: unknown or impossible values.
        """
        try:
            return cls(
                edm=EDMConfig(**data.get("edm", {})),
                conditioning=ConditioningConfig(**data.get("conditioning", {})),
            )
        except TypeError as error:
            raise ConfigError(
                f"The process configuration {dict(data)} is not valid: {error}"
            ) from error
