"""An autoregressive world's part of ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.process.config import ARProcess

if TYPE_CHECKING:
    from nemo_cosmos.models.common.family import FamilySettings

FAMILY = "autoregressive"


@dataclass(frozen=True)
class ARSettings:
    """An autoregressive world's part of ``config.json``.

    Attributes:
        network: the architecture, as :meth:`ARConfig.architecture` gives it.
        process: training of the next code, and the usual sampling.
    """

    network: Mapping[str, Any]
    process: ARProcess

    def network_config(self, **overrides: Any) -> ARConfig:
        """Return the network's configuration; ``overrides`` are fields such as parallel sizes."""
        return ARConfig.from_architecture(self.network, **overrides)

    def to_dict(self) -> JsonObject:
        """Return plain data for ``config.json``."""
        return {"network": dict(self.network), "process": self.process.to_dict()}


def ar_settings(settings: FamilySettings) -> ARSettings:
    """Require the settings of a world to be an autoregressive model's.

    Raises:
        ConfigError: they are another family's.
    """
    if not isinstance(settings, ARSettings):
        raise ConfigError(
            f"The world is of another family ({type(settings).__name__}); expected an "
            "autoregressive model. Use a world whose config.json has the format "
            f"'nemo_cosmos.{FAMILY}'."
        )
    return settings
