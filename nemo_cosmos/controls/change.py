"""What becomes of the pictures of a clip when it is shown otherwise: cut, or mirrored.

A signal says how it follows such a change (``Signal.in_picture``), so that what steers a model
stays true of what the model sees. Nothing else may change the pictures of a clip that has signals.

Shape suffixes: T frames of H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""``(top, left, bottom, right)`` in pixels; bottom and right are exclusive."""


@dataclass(frozen=True)
class PictureChange:
    """A part of each picture is kept, and may then be mirrored, left for right.

    What a mirror shows is a world of its own: seen by the mirrored camera, the world mirrored at
    any upright plane is that picture. ``mirror_axis`` says which plane, so that all signals of a
    clip speak of one and the same mirrored world.

    Attributes:
        size: height and width of the pictures before the change.
        box: the part that is kept.
        mirror_axis: the world's axis that changes its sign: 0 for x, 1 for y, 2 for z; None where
            the picture is not mirrored.
        record: the sample's JSON, for signals whose numbers it explains, such as a robot's.
    """

    size: tuple[int, int]
    box: Box
    mirror_axis: int | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_mirrored(self) -> bool:
        """Whether left becomes right."""
        return self.mirror_axis is not None

    @property
    def kept_size(self) -> tuple[int, int]:
        """Height and width of the pictures after the change."""
        top, left, bottom, right = self.box
        return bottom - top, right - left

    def frames(self, frames_THWC: NDArray[Any]) -> NDArray[Any]:
        """Change pictures.

        Args:
            frames_THWC: frames of :attr:`size`; or masks ``(T, H, W)``.
        """
        top, left, bottom, right = self.box
        kept_THWC = frames_THWC[:, top:bottom, left:right]
        return np.ascontiguousarray(kept_THWC[:, :, ::-1] if self.is_mirrored else kept_THWC)
