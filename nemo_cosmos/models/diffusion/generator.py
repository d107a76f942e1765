"""Generation with a diffusion model: noise and conditions in, sampled and decoded video out.

Implements :class:`nemo_cosmos.models.common.generator.BatchGenerator`. Shape suffixes: B batch,
C channels, T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nemo_cosmos.errors import ConfigError, WrongFrameCountError
from nemo_cosmos.models.common.generator import (
    Shot,
    common_shot,
    from_first_rank,
    on_all_ranks,
)
from nemo_cosmos.models.common.latents import check_side, decode_views
from nemo_cosmos.models.diffusion.controls import ControlEmbedder
from nemo_cosmos.models.diffusion.network.views import CameraViews, camera_views
from nemo_cosmos.models.diffusion.options import DiffusionOptions
from nemo_cosmos.models.diffusion.parallel.sampling import sample_on_all
from nemo_cosmos.models.diffusion.process.change import (
    base_of_change,
    change_of_pictures,
    changing_frames,
    first_frames,
    shown_first_frames,
)
from nemo_cosmos.models.diffusion.process.conditioning import (
    FrameCondition,
    augment_sigma_for_chunk,
)
from nemo_cosmos.models.diffusion.process.denoiser import SamplingInputs
from nemo_cosmos.models.diffusion.process.samplers import SAMPLERS, seeded_noise
from nemo_cosmos.progress import Progress

if TYPE_CHECKING:
    from nemo_cosmos.models.common.latents import LatentCodec
    from nemo_cosmos.models.diffusion.build import WorldNetwork
    from nemo_cosmos.models.diffusion.process.config import DiffusionConfig


class DiffusionGenerator:
    """Makes videos with a diffusion network and the tokenizer of its latents.

    Args:
        net: the network in evaluation mode, or this rank's part of it.
        process: the diffusion process that it was trained on.
        tokenizer: decodes the latents.
    """

    options_class = DiffusionOptions
    last_run: Mapping[str, object] = MappingProxyType({})

    def __init__(self, net: WorldNetwork, process: DiffusionConfig, tokenizer: LatentCodec) -> None:
        self.net = net
        self.process = process
        self.tokenizer = tokenizer

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.net.parameters()).device

    @property
    def takes_frames(self) -> bool:
        """Whether the network was trained with given frames (Video2World)."""
        return self.process.takes_frames

    @property
    def needs_frames(self) -> bool:
        """Never: Video2World begins with any number of them."""
        return False

    @property
    def takes_text(self) -> bool:
        """Always."""
        return True

    @property
    def max_views(self) -> int:
        """The most cameras of a video."""
        return self.net.config.max_views

    @property
    def max_given_views(self) -> int:
        """The most cameras whose whole videos training gave."""
        return self.process.views.max_given

    def legal_given(self, num_frames: int) -> list[int]:
        """Return the frame counts that fill 1, 2, ... whole latents and leave some to generate."""
        most = self.process.conditioning.max_condition_latents
        tokenizer = self.tokenizer.config
        counts = [tokenizer.num_pixel_frames(latents) for latents in range(1, most + 1)]
        return [count for count in counts if count < num_frames]

    def check(self, num_frames: int, height: int, width: int, options: DiffusionOptions) -> None:
        """Check length and size in pixels, where a person thinks of them.

        Raises:
            WrongFrameCountError: a length that the tokenizer or the network cannot take.
            WrongSizeError: a size that it cannot take.
            ConfigError: too few steps for the sampler, or guidance on a control that the model
                lacks or was always trained with.
        """
        tokenizer, network = self.tokenizer.config, self.net.config
        most = tokenizer.num_pixel_frames(network.max_frames)
        if num_frames > most:  # first, so that the nearest legal lengths below are legal here
            raise WrongFrameCountError(
                f"{num_frames} frames are more than the {most} that this model makes at once. "
                "Ask for fewer, or use 'extend' for a longer video."
            )
        tokenizer.check_num_frames(num_frames)
        step = tokenizer.spatial_factor * network.patch_spatial
        for name, value, limit in (
            ("height", height, network.max_height),
            ("width", width, network.max_width),
        ):
            check_side(name, value, step, limit * tokenizer.spatial_factor)
        least = SAMPLERS[options.sampler].min_steps
        if options.steps < least:
            raise ConfigError(
                f"{options.steps} sampling steps are too few: '{options.sampler}' needs {least} "
                "or more, and 35 are usual."
            )
        if options.sigma_min >= options.sigma_max:
            raise ConfigError(
                f"sigma_min={options.sigma_min} is not below sigma_max={options.sigma_max}, from "
                "which sampling goes down to it. 0.002 and 80 are usual."
            )
        if options.guide_control or options.control_guidance:
            self._check_control_guidance()

    def _check_control_guidance(self) -> None:
        """Require a model that has learned what a video without its control looks like."""
        if not self.net.controls:
            raise ConfigError(
                "This model has no control, so that no guidance can strengthen it. Leave out "
                "'control_guidance' and 'guide_control', or use a model with a control."
            )
        if not self.process.conditioning.control_dropout:
            raise ConfigError(
                "This model was never trained without its control, so that guidance on it has "
                "nothing to move away from. Leave out 'control_guidance' and 'guide_control', or "
                "train with model.process.conditioning.control_dropout=0.1."
            )

    def generate(self, shot: Shot, progress: Progress | None = None) -> Tensor:
        """Sample the shot's latents and decode them; every rank of the network calls it.

        Returns:
            video_BCTHW in [-1, 1], the same on every rank; the views one after another along T.

        Raises:
            Cancelled: the progress of any rank raised it.
            SampleError: control arrays that do not fit the video.
            NumericsError: the sample is NaN or infinite.
        """
        return self.generate_batch([shot], progress)

    @torch.no_grad()
    def generate_batch(self, shots: Sequence[Shot], progress: Progress | None = None) -> Tensor:
        """Sample several shots at once; see :class:`BatchGenerator`."""
        first, options = common_shot(shots), shots[0].options
        channels, frames, rows, columns = self.tokenizer.latent_shape(
            first.num_frames, first.height, first.width
        )
        num_views = len(first.views)
        shape = (1, channels, num_views * frames, rows, columns)
        # A chunk has noise of its own: the same noise would repeat the motion of the one before.
        noise_BCTHW = torch.cat(
            [seeded_noise(shape, (shot.seed + shot.chunk) % 2**32) for shot in shots]
        ).to(self.device)
        frames_given = self._given(shots, noise_BCTHW)
        controls = self._control_batch(shots, frames_given)
        conditions = SamplingInputs(
            text_BLD=torch.cat([shot.text_BLD for shot in shots]).to(self.device),
            uncond_text_BLD=torch.cat([shot.negative_text_BLD for shot in shots]).to(self.device),
            guidance=options.guidance,
            fps_B=torch.full((len(shots),), first.fps, dtype=torch.float32, device=self.device),
            frames=frames_given,
            control=self.net.embed_controls(controls, noise_BCTHW.shape),
            views=self._views(shots, controls, num_views * frames),
            guide_frames=options.guide_frames,
            guide_control=options.guide_control,
            control_guidance=options.control_guidance,
        )
        x0_BCTHW = sample_on_all(
            self.net,
            conditions,
            self.process,
            noise_BCTHW,
            sampler=options.sampler,
            num_steps=options.steps,
            sigma_min=options.sigma_min,
            sigma_max=options.sigma_max,
            progress=on_all_ranks(progress),
        )
        # Decoded once: GPUs may round differently, and ranks must begin the next chunk alike.
        return from_first_rank(lambda: self._decode(x0_BCTHW, conditions, controls, shots))

    def _decode(
        self,
        x0_BCTHW: Tensor,
        conditions: SamplingInputs,
        controls: Mapping[str, Tensor],
        shots: Sequence[Shot],
    ) -> Tensor:
        """Decode the sample, or what it changes of the first frames that were given."""
        num_views, sigma_data = len(shots[0].views), self.process.edm.sigma_data
        frames = conditions.frames
        if frames is None or not self.process.conditioning.predicts_change:
            return decode_views(self.tokenizer, x0_BCTHW / sigma_data, num_views)
        first_BCTHW = first_frames(frames.x0_BCTHW, num_views) / sigma_data
        pictures = _first_pictures(shots)
        if conditions.control is not None and conditions.control.change_base_BCTHW is not None:
            first_BCTHW = conditions.control.change_base_BCTHW
            pictures = [self._carried(controls, pictures[0], shots[0].num_frames)]
        base_BCTHW = base_of_change(first_BCTHW, changing_frames(_given_BT(frames), num_views))
        latents_BCTHW = x0_BCTHW / sigma_data + base_BCTHW
        video_BCTHW = decode_views(self.tokenizer, latents_BCTHW, num_views)
        still_BCTHW = decode_views(self.tokenizer, first_BCTHW, num_views)
        return change_of_pictures(video_BCTHW, still_BCTHW, pictures)

    def _carried(
        self, controls: Mapping[str, Tensor], picture_BC1HW: Tensor | None, num_frames: int
    ) -> Tensor | None:
        """The first picture as the control that says what changes start from sees it later."""
        if picture_BC1HW is None:
            return None
        embedders = (one for one in self.net.controls.values() if isinstance(one, ControlEmbedder))
        (embed,) = (one for one in embedders if one.sets_change_base)
        return embed.carry(controls, picture_BC1HW.to(self.device), num_frames)

    def _given(self, shots: Sequence[Shot], noise_BCTHW: Tensor) -> FrameCondition | None:
        """Encode the given frames into the first latents of each view.

        The tokenizer is causal, so padding the frames to the whole length first, as the reference
        does, would give the same latents.
        """
        num_views = len(shots[0].views)
        frames = noise_BCTHW.shape[2] // num_views
        x0_BCTHW = torch.zeros_like(noise_BCTHW)
        given_T = torch.zeros(noise_BCTHW.shape[2], dtype=torch.bool, device=self.device)
        by_shot = [_given_by_view(shot) for shot in shots]
        for view, of_shots in enumerate(zip(*by_shot, strict=True)):
            given = [one for one in of_shots if one is not None]
            if not given:
                continue
            latents_BCTHW = self.tokenizer.encode(torch.cat(given).to(self.device))
            first, last = view * frames, view * frames + latents_BCTHW.shape[2]
            x0_BCTHW[:, :, first:last] = latents_BCTHW * self.process.edm.sigma_data
            given_T[first:last] = True
        if all(one is None for one in by_shot[0]):
            return None
        augment_sigmas = [augment_sigma_for_chunk(shot.chunk) for shot in shots]
        return FrameCondition.frames(
            x0_BCTHW,
            given_T.expand(len(shots), -1),
            noise_BCTHW,
            torch.tensor(augment_sigmas, device=self.device),
        )

    def _control_batch(
        self, shots: Sequence[Shot], frames: FrameCondition | None
    ) -> dict[str, Tensor]:
        """The control arrays of all shots, and their first frames, on the network's device."""
        batch = {
            name: torch.from_numpy(np.stack([shot.controls[name] for shot in shots])).to(
                self.device
            )
            for name in shots[0].controls
        }
        if self.process.conditioning.predicts_change and frames is not None:
            num_views = len(shots[0].views)
            first_BCTHW = first_frames(frames.x0_BCTHW, num_views) / self.process.edm.sigma_data
            batch["first_frames"] = shown_first_frames(first_BCTHW, _given_BT(frames), num_views)
        return batch

    def _views(
        self, shots: Sequence[Shot], controls: Mapping[str, Tensor], num_frames: int
    ) -> CameraViews | None:
        """The cameras of all shots, and their rigs where the arrays of one are there."""
        batch = {**controls, "views": [shot.views for shot in shots]}
        return camera_views(batch, self.net.config, num_frames, self.device)


def _given_by_view(shot: Shot) -> tuple[Tensor | None, ...]:
    return shot.given_by_view or (shot.given_BCTHW,)


def _first_pictures(shots: Sequence[Shot]) -> list[Tensor | None]:
    """The first given picture of each view, of all shots; None for a view without one."""
    by_view = zip(*map(_given_by_view, shots), strict=True)
    found = ([one[:, :, :1] for one in of_shots if one is not None] for of_shots in by_view)
    return [torch.cat(firsts) if firsts else None for firsts in found]


def _given_BT(frames: FrameCondition) -> Tensor:
    """Whether each frame is given."""
    return frames.given_B1T11[:, 0, :, 0, 0]
