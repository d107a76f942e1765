"""Everything random in one training step of the diffusion process.

It follows from the run's seed, the step and the sample's key, which are hashed to a seed of the
sample. So a step's randomness does not depend on how the batch is spread over ranks, is equal on
tensor- and context-parallel ranks, and is the same after a resume.

Noise levels, given frames and what is dropped are a few numbers a sample; torch's generator of the
host draws them, for every device the same. The noise itself is as large as the video:

* on the CPU the same generator continues with it, for the whole video, of which a context-parallel
  rank then cuts its box;
* a GPU computes it from a counter (:mod:`~nemo_cosmos.models.diffusion.process.counter_noise`), and
  only for the box. The two are different numbers of the same distribution.

Shape suffixes: B batch, C channels, T latent frames, H W latent rows and columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from nemo_cosmos.models.diffusion.parallel.cp_box import LatentBox
from nemo_cosmos.models.diffusion.process.conditioning import ViewConditioning
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.counter_noise import normal_noise
from nemo_cosmos.models.diffusion.process.edm import training_sigma
from nemo_cosmos.platform import by_device, upload

CPU = torch.device("cpu")


@dataclass(frozen=True)
class StepNoise:
    """The randomness of one training batch.

    Attributes:
        sigma_B: noise levels.
        noise_BCTHW: standard normal noise.
        num_given_B: number of given first latent frames, of each view.
        augment_sigma_B: noise levels of the given frames.
        augment_noise_BCTHW: their standard normal noise; zero in the other frames.
        keep_text_B: 0 where the text is dropped.
        keep_frames_B: 0 where the given frames are hidden.
        keep_control_B: 0 where all controls are dropped.
        given_views_BV: 1 at views that are given as a whole.
        keep_names_BV: 0 where a view's name is hidden.
    """

    sigma_B: Tensor
    noise_BCTHW: Tensor
    num_given_B: Tensor
    augment_sigma_B: Tensor
    augment_noise_BCTHW: Tensor
    keep_text_B: Tensor
    keep_frames_B: Tensor
    keep_control_B: Tensor
    given_views_BV: Tensor
    keep_names_BV: Tensor


class SampleDraws:
    """The random numbers of one sample in one step.

    Attributes:
        seed: seed of the sample in this step.
        host: torch's generator of that seed, on the CPU.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.host = torch.Generator().manual_seed(seed)


class NoiseSource(Protocol):
    """Draws a sample's noise."""

    def __call__(
        self,
        draws: SampleDraws,
        shape_CTHW: Sequence[int],
        num_frames: int,
        box: LatentBox,
        device: torch.device,
        stream: int,
    ) -> Tensor:
        """Return standard normal noise in the first latent frames of a box.

        Args:
            draws: the sample's random numbers.
            shape_CTHW: shape of the whole latent.
            num_frames: number of the video's first frames that have noise.
            box: the part of the latent that is wanted.
            device: where it is wanted.
            stream: number of the noise; a sample's streams are drawn in rising order.

        Returns:
            Float32 noise in the box's shape, zero in later frames.
        """
        ...


def host_noise(
    draws: SampleDraws,
    shape_CTHW: Sequence[int],
    num_frames: int,
    box: LatentBox,
    device: torch.device,
    stream: int,
) -> Tensor:
    """Draw noise for the whole video on the CPU, and cut the box; see :class:`NoiseSource`."""
    channels, frames, height, width = shape_CTHW
    noise = torch.randn(channels, num_frames, height, width, generator=draws.host)
    return upload(box.cut(_fill_up(noise, frames)), device)


def counter_noise(
    draws: SampleDraws,
    shape_CTHW: Sequence[int],
    num_frames: int,
    box: LatentBox,
    device: torch.device,
    stream: int,
) -> Tensor:
    """Compute the box's noise where it is wanted; see :class:`NoiseSource`."""
    frames, height, width = box.size_thw
    num_here = min(max(num_frames - box.start_thw[0], 0), frames)
    if not num_here:  # a model without given frames, or a rank behind them
        return torch.zeros(shape_CTHW[0], *box.size_thw, device=device)
    noise = normal_noise(
        (shape_CTHW[0], num_here, height, width),
        draws.seed,
        device,
        stream=stream,
        whole_thw=box.whole_thw,
        start_thw=box.start_thw,
    )
    return _fill_up(noise, frames)


def draw_step_noise(
    latent_shape_BCTHW: Sequence[int],
    keys: Sequence[str],
    seed: int,
    step: int,
    config: DiffusionConfig,
    *,
    device: torch.device = CPU,
    box: LatentBox | None = None,
    source: NoiseSource | None = None,
    num_views: int = 1,
) -> StepNoise:
    """Draw the randomness of a batch, every sample's from its own seed.

    Args:
        latent_shape_BCTHW: shape of the whole latents.
        keys: what identifies each sample among those of the step.
        seed: the run's seed.
        step: number of the optimiser's step.
        config: the diffusion process.
        device: where it is needed.
        box: the part of the latents that this rank holds; by default the whole.
        source: what draws the noise; by default the one for the device.
        num_views: number of views, one after another along the latents' time axis.

    Returns:
        Float32 tensors on the device, those of noise in the box's shape.
    """
    shape_CTHW = latent_shape_BCTHW[1:]
    source = source or by_device(host_noise, counter_noise, device)
    box = box or LatentBox.whole(shape_CTHW[1:])
    conditioning, frames = config.conditioning, shape_CTHW[1]
    max_given = min(conditioning.max_condition_latents, frames // num_views - 1)
    min_given = min(conditioning.min_condition_latents, max_given)
    num_augmented = max_given  # frames that may be given
    if num_views > 1:
        num_augmented = frames if config.takes_frames else 0
    normal, uniform, noise, augment_noise, views = [], [], [], [], []
    for key in keys:
        draws = SampleDraws(_seed_of(seed, step, key))
        # The order of these draws decides the numbers of every run; new ones go to the end.
        normal.append(torch.randn(2, generator=draws.host))
        uniform.append(torch.rand(4, generator=draws.host))
        if num_views > 1:
            views.append(_draw_views(draws.host, num_views, config.views))
        noise.append(source(draws, shape_CTHW, frames, box, device, stream=0))
        augment_noise.append(source(draws, shape_CTHW, num_augmented, box, device, stream=1))
    normal_2B, uniform_4B = torch.stack(normal, dim=1), torch.stack(uniform, dim=1)
    augment_log_B = conditioning.augment_log_mean + conditioning.augment_log_std * normal_2B[1]
    numbers = {
        "sigma_B": training_sigma(normal_2B[0], frames, config.edm),
        "num_given_B": min_given + (uniform_4B[0] * (max_given - min_given + 1)).floor(),
        "augment_sigma_B": augment_log_B.exp(),
        "keep_text_B": (uniform_4B[1] >= conditioning.text_dropout).float(),
        "keep_frames_B": (uniform_4B[2] >= conditioning.frame_dropout).float(),
        "keep_control_B": (uniform_4B[3] >= conditioning.control_dropout).float(),
    }
    # One small copy to the device for all of them.
    rows = upload(torch.stack(list(numbers.values())), device).unbind()
    if views:
        given_BV, keep_BV = upload(torch.stack(views, dim=1), device).unbind()
    else:  # one view is neither given nor hidden
        given_BV, keep_BV = rows[0].new_zeros(len(keys), 1), rows[0].new_ones(len(keys), 1)
    return StepNoise(
        noise_BCTHW=torch.stack(noise),
        augment_noise_BCTHW=torch.stack(augment_noise),
        **dict(zip(numbers, rows, strict=True)),
        given_views_BV=given_BV,
        keep_names_BV=keep_BV,
    )


def _draw_views(host: torch.Generator, num_views: int, config: ViewConditioning) -> Tensor:
    """Draw which views are given as a whole, and whose names are kept, (2, V)."""
    most = min(config.max_given, num_views - 1)  # one is left to generate
    num_given = int(torch.rand((), generator=host) * (most + 1))
    order_V = torch.randperm(num_views, generator=host)
    keep_V = torch.rand(num_views, generator=host) >= config.name_dropout
    return torch.stack([order_V < num_given, keep_V]).float()


def _fill_up(noise_CTHW: Tensor, num_frames: int) -> Tensor:
    """Add frames of zeros up to a number of frames."""
    missing = num_frames - noise_CTHW.shape[1]
    return F.pad(noise_CTHW, (0, 0, 0, 0, 0, missing)) if missing else noise_CTHW


def _seed_of(seed: int, step: int, key: str) -> int:
    """Hash to a seed; a cryptographic hash, since neighbouring seeds must not be related."""
    digest = hashlib.blake2b(f"{seed}/{step}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
