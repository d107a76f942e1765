"""What a person can choose about a generation, checked before anything is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from nemo_cosmos.checkpoint.world.folder import World
from nemo_cosmos.errors import (
    ConfigError,
    InputError,
    WrongFrameCountError,
    WrongSizeError,
    nearest_names,
)
from nemo_cosmos.models.diffusion.family import diffusion_settings
from nemo_cosmos.models.diffusion.process.samplers import SAMPLERS


@dataclass(frozen=True)
class GenerationOptions:
    """Choices that all tasks share; None takes what the model was trained on.

    Attributes:
        num_frames: length of the video (of a chunk, when extending).
        height: in pixels.
        width: in pixels.
        fps: frame rate in Hz.
        guidance: how strongly to follow the prompt; 0 is without guidance and twice as fast.
        steps: sampling steps.
        sampler: ``res_2ab`` or ``edm_euler``.
        seed: of the noise; the same seed and inputs give the same video.
        negative_prompt: what to keep away from; it is not shown to the prompt guards.
        guide_frames: let guidance strengthen the given frames, too.
        guide_control: let guidance strengthen the control, too; the model must have been trained
            with ``control_dropout``.
    """

    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    guidance: float = 7.0
    steps: int = 35
    sampler: str = "res_2ab"
    seed: int = 1
    negative_prompt: str | None = None
    guide_frames: bool = False
    guide_control: bool = False

    @classmethod
    def make(cls, options: Mapping[str, Any], world: World) -> Self:
        """Complete the options from the model's configuration and check them.

        Raises:
            ConfigError: an unknown option, sampler or impossible value.
            WrongFrameCountError: a length that the model cannot make.
            WrongSizeError: a size that the model cannot make.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in names:
                raise ConfigError(
                    f"There is no option '{name}'. The nearest are {nearest_names(name, names)}."
                )
        video = world.config.video
        chosen = {name: value for name, value in options.items() if value is not None}
        for name in ("num_frames", "height", "width", "fps"):
            chosen.setdefault(name, video[name])
        made = cls(**chosen)
        made._check_choices()
        made._check_video(world)
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the provenance; the negative prompt is hashed elsewhere."""
        values = dataclasses.asdict(self)
        del values["negative_prompt"]
        return values

    @property
    def length(self) -> int:
        """Frames of the video; :meth:`make` has filled them in."""
        assert self.num_frames is not None
        return self.num_frames

    def latent_shape(self, world: World) -> tuple[int, int, int, int, int]:
        """Shape (1,C,T,H,W) of the latents of this video."""
        assert self.height is not None and self.width is not None
        return (1, *world.tokenizer.latent_shape(self.length, self.height, self.width))

    def _check_choices(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ConfigError(
                f"There is no sampler '{self.sampler}'. The nearest are "
                f"{nearest_names(self.sampler, SAMPLERS)}."
            )
        for name, value, least in (
            ("steps", self.steps, 1),
            ("guidance", self.guidance, 0),
            ("seed", self.seed, 0),
        ):
            if not value >= least:
                raise ConfigError(f"{name} is {value}; it must be {least} or more.")
        if self.seed >= 2**32:
            raise ConfigError(f"seed is {self.seed}; it must be below 2^32 = {2**32}.")
        if not (self.fps and self.fps > 0):
            raise ConfigError(f"fps is {self.fps}; it must be above 0. 24 is usual.")

    def _check_video(self, world: World) -> None:
        """Check length and size in pixels, where a person thinks of them."""
        assert self.height is not None and self.width is not None
        tokenizer = world.tokenizer.config
        network = diffusion_settings(world.config.model).network_config()
        tokenizer.check_num_frames(self.length)
        most = tokenizer.num_pixel_frames(network.max_frames)
        if self.length > most:
            raise WrongFrameCountError(
                f"{self.num_frames} frames are more than the {most} that this model makes at once. "
                "Ask for fewer, or use 'extend' for a longer video."
            )
        step = tokenizer.spatial_factor * network.patch_spatial
        for name, value, limit in (
            ("height", self.height, network.max_height),
            ("width", self.width, network.max_width),
        ):
            largest = limit * tokenizer.spatial_factor
            if value % step or not 0 < value <= largest:
                raise WrongSizeError(
                    f"The {name} of {value} pixels does not fit this model, which makes multiples "
                    f"of {step} up to {largest}. The nearest are {_nearest(value, step, largest)}."
                )


def check_num_given(num_frames: int, options: GenerationOptions, world: World) -> None:
    """Check a number of given frames.

    Raises:
        InputError: the model takes no frames.
        WrongFrameCountError: a number that the model was not trained with; names the legal ones.
    """
    legal = _legal_given(options, world)
    if num_frames not in legal:
        raise WrongFrameCountError(
            f"{num_frames} given frames do not fit: for a video of {options.num_frames} frames "
            f"this model continues {' or '.join(map(str, legal))}."
        )


def largest_given(options: GenerationOptions, world: World, at_most: int | None = None) -> int:
    """Return the most frames that can be given, of those up to ``at_most``.

    Raises:
        InputError: the model takes no frames, or there is none to continue.
    """
    fitting = [n for n in _legal_given(options, world) if at_most is None or n <= at_most]
    if not fitting:
        raise WrongFrameCountError("There is no frame to continue. Give an image or a video.")
    return fitting[-1]


def _legal_given(options: GenerationOptions, world: World) -> list[int]:
    """Numbers of pixel frames that make 1, 2, ... given latents and leave some to generate."""
    process = diffusion_settings(world.config.model).process
    most = process.conditioning.max_condition_latents
    if not most:
        raise InputError(
            "This model makes video from text alone (Text2World) and takes no frames. Use "
            "'generate', or a Video2World model."
        )
    tokenizer = world.tokenizer.config
    counts = [tokenizer.num_pixel_frames(latents) for latents in range(1, most + 1)]
    return [count for count in counts if count < options.length]


def _nearest(value: int, step: int, largest: int) -> str:
    below = min(max(value // step * step, step), largest)
    above = min(below + step, largest)
    return str(below) if below == above else f"{below} and {above}"
