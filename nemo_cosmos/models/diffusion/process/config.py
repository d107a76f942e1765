"""Settings of the diffusion process that training and inference must share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig, ViewConditioning
from nemo_cosmos.models.diffusion.process.edm import EDMConfig
from nemo_cosmos.options import build_from_file, check_record


@dataclass(frozen=True)
class DiffusionConfig:
    """The settings of the process that training and inference must share.

    Attributes:
        edm: constants of the diffusion process.
        conditioning: how text, given frames and controls are drawn in training.
        views: what is drawn of the views of a sample that has several.
    """

    edm: EDMConfig = field(default_factory=EDMConfig)
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    views: ViewConditioning = field(default_factory=ViewConditioning)

    @property
    def takes_frames(self) -> bool:
        """Whether the network has the mask channel for given frames or views."""
        return self.conditioning.takes_frames or self.views.max_given > 0

    def to_dict(self) -> dict[str, object]:
        """Return plain data for ``config.json``."""
        content = asdict(self)
        if self.views == ViewConditioning():  # a model of one camera stays as it always was
            del content["views"]
        return content

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild the configuration from plain data.

        Raises:
            ConfigError: a name that is unknown or missing, or an impossible value.
        """
        sections = {"edm": EDMConfig, "conditioning": ConditioningConfig}
        check_record(data, "process", (*sections, "views"), required=sections)
        views = ViewConditioning()
        if "views" in data:
            views = build_from_file(ViewConditioning, data["views"], "process.views")
        return cls(
            edm=build_from_file(
                EDMConfig, _with_later_fields(data["edm"], motion_weight=0.0), "process.edm"
            ),
            conditioning=build_from_file(
                ConditioningConfig,
                _with_later_fields(data["conditioning"], predicts_change=False),
                "process.conditioning",
            ),
            views=views,
        )


def _with_later_fields(section: object, **fields: object) -> object:
    """Add the fields that worlds of earlier releases lack, as they were trained."""
    return {**fields, **section} if isinstance(section, Mapping) else section
