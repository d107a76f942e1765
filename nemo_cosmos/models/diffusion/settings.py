"""A diffusion world's part of ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig

if TYPE_CHECKING:
    from nemo_cosmos.models.common.family import FamilySettings


@dataclass(frozen=True)
class DiffusionSettings:
    """A diffusion world's part of ``config.json``.

    Attributes:
        network: the architecture, as :meth:`DiTConfig.architecture` gives it.
        process: the diffusion process.
    """

    network: Mapping[str, Any]
    process: DiffusionConfig

    def network_config(self, **overrides: Any) -> DiTConfig:
        """Return the network's configuration; ``overrides`` are fields such as parallel sizes."""
        return DiTConfig.from_architecture(self.network, **overrides)

    def to_dict(self) -> JsonObject:
        """Return plain data for ``config.json``."""
        return {"network": dict(self.network), "process": self.process.to_dict()}


def diffusion_settings(settings: FamilySettings) -> DiffusionSettings:
    """Require the settings of a world to be a diffusion model's.

    Raises:
        ConfigError: they are another family's.
    """
    if not isinstance(settings, DiffusionSettings):
        raise ConfigError(
            f"The world is of another family ({type(settings).__name__}); expected a diffusion "
            "model. Use a world whose config.json has the format 'nemo_cosmos.diffusion'."
        )
    return settings
