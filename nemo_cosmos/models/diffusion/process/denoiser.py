"""The guided denoiser: a network and what it is conditioned on, as the samplers call them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nemo_cosmos.models.diffusion.controls import ControlEmbedding, mask_embedding
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput, Places, TextKeysValues
from nemo_cosmos.models.diffusion.network.views import CameraViews
from nemo_cosmos.models.diffusion.parallel.pipelined import PipelinedDiT
from nemo_cosmos.models.diffusion.process.conditioning import FrameCondition, guide
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import scaling
from nemo_cosmos.models.diffusion.process.samplers import Denoiser


@dataclass(frozen=True)
class SamplingInputs:
    """What a sample is generated from, besides noise.

    Attributes:
        text_BLD: the prompt's embedding.
        uncond_text_BLD: the negative prompt's embedding; zeros without one.
        guidance: strength of the guidance; 0 runs the network once a step instead of twice.
        fps_B: frame rate of the video in Hz.
        padding_mask_B1HW: 1 at padded pixels.
        frames: given frames (Video2World).
        control: what the controls add to the network's input.
        guide_frames: whether the unconditional branch also lacks the given frames.
        guide_control: whether the unconditional branch also lacks the controls.
        control_guidance: strength of a guidance on the controls alone; 0 saves an evaluation.
        origin_thw: position of the first token, where this is a rank's box of a larger video.
        views: the cameras; None for a network of one.
    """

    text_BLD: Tensor
    uncond_text_BLD: Tensor
    guidance: float
    fps_B: Tensor | None = None
    padding_mask_B1HW: Tensor | None = None
    frames: FrameCondition | None = None
    control: ControlEmbedding | None = None
    guide_frames: bool = False
    guide_control: bool = False
    control_guidance: float = 0.0
    origin_thw: tuple[int, int, int] = (0, 0, 0)
    views: CameraViews | None = None

    def unconditional(self) -> SamplingInputs:
        """Return the inputs of the guidance's unconditional branch."""
        frames, control = self.frames, self.control
        if frames is not None and self.guide_frames:
            frames = frames.hidden()
        if self.guide_control:
            control = self.without_control().control
        return replace(self, text_BLD=self.uncond_text_BLD, frames=frames, control=control)

    def without_control(self) -> SamplingInputs:
        """Return the inputs of the branch that guidance on the controls moves away from."""
        if self.control is None:
            return self
        none_B = self.text_BLD.new_zeros(self.text_BLD.shape[0])
        return replace(self, control=mask_embedding(self.control, none_B))

    def contrasts(self) -> list[tuple[float, SamplingInputs]]:
        """Return the branches that guidance moves away from, each with its strength."""
        branches = []
        if self.guidance:
            branches.append((self.guidance, self.unconditional()))
        if self.control_guidance and self.control is not None:
            branches.append((self.control_guidance, self.without_control()))
        return branches


def make_denoiser(
    net: DiT | PipelinedDiT, given: SamplingInputs, config: DiffusionConfig
) -> Denoiser:
    """Return the guided denoiser D(x, sigma) that a sampler walks with.

    The text's keys and values and the tokens' places do not change from step to step; the former
    are computed here, the latter with the first sample.

    Args:
        net: the network.
        given: what to generate from.
        config: the diffusion process.
    """
    with torch.no_grad():
        text = net.encode_text(given.text_BLD, given.control)
        contrasts = [
            (strength, other, net.encode_text(other.text_BLD, other.control))
            for strength, other in given.contrasts()
        ]

    places: Places | None = None

    def denoise(x_BCTHW: Tensor, sigma_B: Tensor) -> Tensor:
        nonlocal places
        if places is None:
            with torch.no_grad():
                seen = NetworkInput(
                    x_BCTHW,
                    sigma_B,
                    text,
                    fps_B=given.fps_B,
                    origin_thw=given.origin_thw,
                    views=given.views,
                )
                places = net.encode_places(seen)
        cond = _denoise(net, x_BCTHW, sigma_B, text, places, given, config)
        return guide(
            cond,
            *(
                (strength, _denoise(net, x_BCTHW, sigma_B, other_text, places, other, config))
                for strength, other, other_text in contrasts
            ),
        )

    return denoise


def _denoise(
    net: DiT | PipelinedDiT,
    x_BCTHW: Tensor,
    sigma_B: Tensor,
    text: TextKeysValues,
    places: Places,
    given: SamplingInputs,
    config: DiffusionConfig,
) -> Tensor:
    """One evaluation: compose the input, run the network, keep the given frames."""
    sigma_data = config.edm.sigma_data
    scale = scaling(sigma_B, sigma_data)
    frames, mask_B1THW = given.frames, None
    if frames is not None:
        mask_B1THW = frames.mask_B1THW()
        frames = frames.at(sigma_B)
        x_BCTHW = frames.compose(x_BCTHW, sigma_B, sigma_data)
    output_BCTHW = net(
        NetworkInput(
            scale.c_in * x_BCTHW,
            scale.c_noise,
            text,
            fps_B=given.fps_B,
            padding_mask_B1HW=given.padding_mask_B1HW,
            condition_mask_B1THW=mask_B1THW,
            control=given.control,
            origin_thw=given.origin_thw,
            places=places,
            views=given.views,
        )
    )
    x0_BCTHW = scale.c_skip * x_BCTHW + scale.c_out * output_BCTHW.float()
    return x0_BCTHW if frames is None else frames.keep(x0_BCTHW)
