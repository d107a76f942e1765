"""Choices about a video that all model families share. Imports nothing heavy, for ``--help``."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cosmos.options import option


@dataclass(frozen=True)
class GenerationOptions:
    """Choices that all model families share; None takes what the model was trained on.

    Attributes:
        num_frames: length of the video (of a chunk, when extending).
        height: height in pixels.
        width: width in pixels.
        fps: frame rate in Hz.
        seed: seed of all randomness; the same seed and inputs give the same video.
        negative_prompt: what to keep away from; the prompt guards do not see it.
        embodiment: whose actions are given, by a name of the world's; None leaves it to their
            width. For worlds that several robots steer.
    """

    num_frames: int | None = option(
        None, "Frames; default: as the model was trained.", least=1, most=1e6
    )
    height: int | None = option(None, "Height in pixels; default: as trained.", least=1, most=65536)
    width: int | None = option(None, "Width in pixels; default: as trained.", least=1, most=65536)
    fps: float | None = option(None, "Frames a second; default: as trained.", above=0, most=1000)
    seed: int = option(1, "The same seed and inputs give the same video.", least=0, most=2**32 - 1)
    negative_prompt: str | None = option(None, "What to keep away from.")
    embodiment: str | None = option(None, "Whose actions are given, of a world of several robots.")
