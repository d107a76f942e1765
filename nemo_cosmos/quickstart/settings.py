"""Every number of the quickstart, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class QuickstartSettings:
    """Sizes and step counts of the quickstart.

    The defaults fit two CPU cores and a quarter of an hour.

    Attributes:
        num_episodes: robot episodes to train on.
        num_held_out: episodes of another seed, to evaluate on.
        num_episode_frames: frames of an episode.
        fps: frames per second of an episode.
        height: height of all videos in pixels.
        width: width of all videos in pixels.
        window_frames: frames of a training sample and of a generated video, 1 + 4n.
        window_stride: frames between the starts of two training samples.
        tokenizer_steps: training steps of the video tokenizer.
        world_patch: edge of the world model's patches, in latent pixels of 8 x 8 pixels.
        world_width: width of the world model.
        world_heads: attention heads of the world model.
        world_steps: pre-training steps of the world model.
        action_steps: steps of its post-training on actions.
        sampling_steps: denoising steps of each generated video.
        guidance: guidance strength of videos made from words alone.
        workers: processes that render.
        seed: the seed of all randomness.
    """

    num_episodes: int = 150
    num_held_out: int = 8
    num_episode_frames: int = 33
    fps: float = 10.0
    height: int = 96
    width: int = 128
    window_frames: int = 17
    window_stride: int = 4
    tokenizer_steps: int = 800
    # One view of one table is drawn sooner in few large patches than in many small ones: at equal
    # CPU time arms are whole that come in pieces at patches of 2.
    world_patch: int = 4
    world_width: int = 320
    world_heads: int = 10
    world_steps: int = 1000
    action_steps: int = 1200
    sampling_steps: int = 16
    guidance: float = 1.0
    workers: int = 2
    seed: int = 1

    @property
    def size(self) -> str:
        """Height and width as the commands take them."""
        return f"{self.height}x{self.width}"

    @classmethod
    def tiny(cls) -> Self:
        """Return a few steps of everything: enough to see that it runs."""
        return cls(
            num_episodes=4,
            num_held_out=2,
            num_episode_frames=21,
            height=48,
            width=64,
            tokenizer_steps=4,
            world_patch=2,
            world_width=96,
            world_heads=3,
            world_steps=4,
            action_steps=4,
            sampling_steps=2,
        )
