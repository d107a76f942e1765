"""What may be changed about clips, as a person sets it. All of it is off by default.

::

    TokenizeConfig(variants=Variants(number=2, flip=0.5, crop=0.2))     # latents
    VideoDataModule("shards", augment=Augmentation(flip=0.5, colour=0.2))   # pixels
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.options import check_fields, option

MirrorAxis: TypeAlias = Literal["auto", "x", "y"]


@dataclass(frozen=True)
class Augmentation:
    """How much a clip may be changed.

    Attributes:
        flip: share of clips that are mirrored, left for right.
        crop: most of each side that is cut away; the rest, of the same aspect and from anywhere, is
            scaled up to the full size.
        colour: how far brightness, contrast and saturation may be from 1, each by itself. Hues
            stay, since captions name colours.
        speed: frames from one to the next, such as 1 and 2; drawn among those that the clip is long
            enough for. The frame rate falls in the same measure, so that seconds stay seconds.
        mirror_axis: the axis of the world that changes its sign where a clip is mirrored. ``auto``
            takes the one that lies along the picture, by the clip's camera, and y without one.

    Raises:
        ConfigError: a value is impossible, or nothing would be changed.
    """

    flip: float = option(0.0, "Share of clips to mirror, left for right.", least=0, most=1)
    crop: float = option(
        0.0, "Most of each side to cut away; the rest fills it.", least=0, most=0.9
    )
    colour: float = option(0.0, "Most change of brightness and contrast.", least=0, most=0.9)
    speed: tuple[int, ...] = option((1,), "Take every N-th frame. Repeatable.", least=1, most=64)
    mirror_axis: MirrorAxis = option("auto", "The robot's axis to mirror: auto, x or y.")

    def __post_init__(self) -> None:
        check_fields(self)
        # A list would not compare equal to what a finished run has recorded.
        object.__setattr__(self, "speed", tuple(self.speed))
        if not self.speed:
            raise ConfigError("speed is empty; expected whole numbers, such as (1, 2).")
        if not (self.flip or self.crop or self.colour or set(self.speed) != {1}):
            raise ConfigError(
                "The augmentation changes nothing: flip, crop and colour are 0, and speed is 1. "
                "Set one of them, or leave the augmentation out."
            )


@dataclass(frozen=True)
class Variants(Augmentation):
    """Changed copies of windows, which are tokenised beside the windows themselves.

    Attributes:
        number: changed copies of each window.
        seed: seed of the changes. A copy depends on the seed, its window and its own number, and on
            nothing else.
        embodiment: what actions and states are of, where the recordings' JSON does not say or names
            what the table lacks: a name of the table, or ``FILE.yaml:NAME``. None takes their word.
    """

    number: int = option(1, "Changed copies of each window.", flag="--variants", least=1, most=1000)
    seed: int = option(0, "Seed of the changes.", flag="--variant-seed", least=0, most=2**31 - 1)
    embodiment: str | None = option(
        None, "What actions are of, if recordings do not say: NAME or FILE.yaml:NAME."
    )
