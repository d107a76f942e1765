"""One drawn change of a clip: its place, mirror, speed and colours.

Shape suffixes: T frames of H x W pixels, C colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.aliases import Array, JsonObject
from nemo_cosmos.controls import PictureChange
from nemo_cosmos.controls.embodiment import EMBODIMENT, Embodiment
from nemo_cosmos.controls.mirror import LATERAL_AXIS, mirror_axis_of
from nemo_cosmos.data.augmentation.settings import Augmentation, MirrorAxis
from nemo_cosmos.errors import SampleError

_AXES = ("x", "y", "z")
_GREY_3 = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601


@dataclass(frozen=True)
class Change:
    """What is done to a clip.

    Attributes:
        is_mirrored: whether left becomes right.
        kept: share of each side that is kept.
        place: where it is kept, from 0, the upper left, to 1, the lower right: down and across.
        speed: frames from one to the next.
        brightness: factor of all colours.
        contrast: factor of their distance from the clip's mean grey.
        saturation: factor of their distance from their own grey.
        mirror_axis: the world's axis that changes its sign.
        embodiment: what the clip's actions are of, if its JSON does not say.
    """

    is_mirrored: bool = False
    kept: float = 1.0
    place: tuple[float, float] = (0.5, 0.5)
    speed: int = 1
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    mirror_axis: int = LATERAL_AXIS
    embodiment: Embodiment | None = None

    def explained(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a clip's JSON, with the embodiment in place of its name.

        Raises:
            SampleError: the JSON names another one.
        """
        if self.embodiment is None:
            return record
        named = record.get(EMBODIMENT)
        if named is not None and named != self.embodiment.name:
            raise SampleError(
                f"is of the embodiment '{named}' by its JSON, but --embodiment says "
                f"'{self.embodiment.name}'. Leave the option out, or tokenize the recordings of "
                "each robot by themselves."
            )
        return {**record, EMBODIMENT: self.embodiment}

    def picture(
        self, size: tuple[int, int], record: Mapping[str, Any] | None = None
    ) -> PictureChange:
        """What becomes of pictures of a size.

        Args:
            size: their height and width.
            record: the clip's JSON, for its signals.
        """
        kept = [max(1, round(side * self.kept)) for side in size]
        top, left = (
            round(share * (side - part))
            for share, side, part in zip(self.place, size, kept, strict=True)
        )
        box = (top, left, top + kept[0], left + kept[1])
        axis = self.mirror_axis if self.is_mirrored else None
        return PictureChange(size, box, axis, record or {})

    def without_mirror(self) -> Change:
        """The same, but left stays left."""
        return replace(self, is_mirrored=False)

    def colours(self, frames_THWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Change the colours of all frames alike, so that light does not flicker."""
        if self.brightness == self.contrast == self.saturation == 1:
            return frames_THWC
        frames = frames_THWC.astype(np.float32) * np.float32(self.brightness)
        grey_THW1 = (frames @ _GREY_3)[..., None]
        frames = grey_THW1 + (frames - grey_THW1) * np.float32(self.saturation)
        mean = grey_THW1.mean()
        frames = mean + (frames - mean) * np.float32(self.contrast)
        return np.clip(np.rint(frames), 0, 255).astype(np.uint8)

    def describe(self, size: tuple[int, int]) -> JsonObject:
        """What a sample's JSON says of it.

        Args:
            size: height and width of the pictures that it was done to.
        """
        described: JsonObject = {
            "mirrored": self.is_mirrored,
            "box": list(self.picture(size).box),
            "of_size": list(size),
            "speed": self.speed,
            "brightness": round(self.brightness, 4),
            "contrast": round(self.contrast, 4),
            "saturation": round(self.saturation, 4),
        }
        return described | ({"mirror_axis": _AXES[self.mirror_axis]} if self.is_mirrored else {})


def draw_change(
    settings: Augmentation, random: np.random.Generator, speeds: Sequence[int]
) -> Change:
    """Draw what is done to one clip.

    Args:
        settings: how much may be done.
        random: the source of chance. Each part takes its numbers whether it is on or off, so that
            switching one on leaves the others as they were.
        speeds: those of the settings that the clip is long enough for.
    """
    mirrored, kept, down, across, speed, *colours = random.random(8)
    brightness, contrast, saturation = (
        1 + settings.colour * (2 * float(share) - 1) for share in colours
    )
    return Change(
        is_mirrored=bool(mirrored < settings.flip),
        kept=1 - settings.crop * float(kept),
        place=(float(down), float(across)),
        speed=speeds[int(speed * len(speeds))],
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
    )


def speeds_that_fit(settings: Augmentation, num_frames: int, available: int) -> tuple[int, ...]:
    """Return the speeds at which a clip has enough frames; 1 if it has them at no other.

    Args:
        settings: what may be done.
        num_frames: frames to take.
        available: frames that there are.
    """
    if num_frames == 1:
        return (1,)
    fit = tuple(speed for speed in settings.speed if (num_frames - 1) * speed < available)
    return fit or (1,)


def choose_axis(chosen: MirrorAxis, poses_T44: Array | None) -> int:
    """Return the number of the axis that changes its sign.

    Args:
        chosen: what a person has set.
        poses_T44: the clip's camera, if it is known.
    """
    if chosen != "auto":
        return _AXES.index(chosen)
    return LATERAL_AXIS if poses_T44 is None else mirror_axis_of(poses_T44)
