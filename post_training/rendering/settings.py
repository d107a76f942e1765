"""What decides a recording of a simulated scene, besides its number."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from nemo_cosmos.aliases import JsonObject
from nemo_cosmos.errors import ConfigError, WrongFrameCountError, WrongSizeError

_MIN_SIDE = 32
_MAX_SIDE = 1024
_MAX_FPS = 60


@dataclass(frozen=True)
class FilmSettings:
    """Settings that, together with its number, determine a recording.

    Attributes:
        num_frames: frames of each recording.
        fps: frames per second.
        height: height in pixels.
        width: width in pixels.
        seed: seed of all randomness.
    """

    num_frames: int = 33
    fps: float = 10.0
    height: int = 96
    width: int = 128
    seed: int = 1

    def __post_init__(self) -> None:
        if self.num_frames < 2:
            raise WrongFrameCountError(
                f"An episode of {self.num_frames} frames holds no motion; expected at least 2, "
                "for example 33."
            )
        if not 1 <= self.fps <= _MAX_FPS:
            raise ConfigError(
                f"The frame rate is {self.fps:g}; expected 1 to {_MAX_FPS} frames per second."
            )
        for name in ("height", "width"):
            side = getattr(self, name)
            if not _MIN_SIDE <= side <= _MAX_SIDE or side % 2:
                raise WrongSizeError(
                    f"The {name} is {side}; expected an even number from {_MIN_SIDE} to "
                    f"{_MAX_SIDE} pixels, for example 96x128 (height x width)."
                )
        if self.seed < 0:
            raise ConfigError(f"The seed is {self.seed}; expected 0 or more.")

    def as_dict(self) -> JsonObject:
        """Return plain data for the manifest."""
        return asdict(self)
