"""The guided denoiser: a network and its conditions as the samplers call them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nemo_cosmos.models.diffusion.controls import ControlEmbedding, mask_embedding
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.inputs import TextKeysValues
from nemo_cosmos.models.diffusion.parallel.pipelined import PipelinedDiT
from nemo_cosmos.models.diffusion.process.conditioning import FrameCondition, guide
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import scaling
from nemo_cosmos.models.diffusion.process.samplers import Denoiser


@dataclass(frozen=True)
class SamplingInputs:
    """What a sample is generated from.

    Attributes:
        text_BLD: embedding of the prompt.
        uncond_text_BLD: embedding of the negative prompt; zeros where there is none.
        guidance: strength; 0 asks the network once a step instead of twice.
        fps_B: frame rate of the video.
        padding_mask_B1HW: 1 at padded pixels.
        frames: given frames (Video2World).
        control: embedding of the control.
        guide_frames: whether the unconditional branch does without the given frames, too.
        guide_control: whether it does without the control, too.
        origin_thw: the first token's position, where all this is of a part of a video.
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
    origin_thw: tuple[int, int, int] | None = None

    def unconditional(self) -> SamplingInputs:
        """Return what the unconditional branch of guidance is told."""
        frames, control = self.frames, self.control
        if frames is not None and self.guide_frames:
            frames = frames.hidden()
        if control is not None and self.guide_control:
            control = mask_embedding(control, self.text_BLD.new_zeros(self.text_BLD.shape[0]))
        return replace(self, text_BLD=self.uncond_text_BLD, frames=frames, control=control)


def make_denoiser(
    net: DiT | PipelinedDiT, conditions: SamplingInputs, config: DiffusionConfig
) -> Denoiser:
    """Return the guided denoiser D(x, sigma) that a sampler walks with.

    The text's keys and values do not change from step to step; they are computed here once.

    Args:
        net: the network.
        conditions: what to generate from.
        config: of the process.
    """
    with torch.no_grad():
        text = net.encode_text(conditions.text_BLD, conditions.control)
        told_nothing = conditions.unconditional()
        guided = conditions.guidance != 0
        no_text = net.encode_text(told_nothing.text_BLD, told_nothing.control) if guided else None

    def denoise(x_BCTHW: Tensor, sigma_B: Tensor) -> Tensor:
        cond = _denoise(net, x_BCTHW, sigma_B, text, conditions, config)
        if no_text is None:
            return cond
        uncond = _denoise(net, x_BCTHW, sigma_B, no_text, told_nothing, config)
        return guide(cond, uncond, conditions.guidance)

    return denoise


def _denoise(
    net: DiT | PipelinedDiT,
    x_BCTHW: Tensor,
    sigma_B: Tensor,
    text: TextKeysValues,
    conditions: SamplingInputs,
    config: DiffusionConfig,
) -> Tensor:
    """One evaluation: compose the input, ask the network, keep the given frames."""
    sigma_data = config.edm.sigma_data
    scale = scaling(sigma_B, sigma_data)
    frames, mask_B1THW = conditions.frames, None
    if frames is not None:
        mask_B1THW = frames.mask_B1THW()
        frames = frames.at(sigma_B)
        x_BCTHW = frames.compose(x_BCTHW, sigma_B, sigma_data)
    output_BCTHW = net(
        scale.c_in * x_BCTHW,
        scale.c_noise,
        text,
        fps_B=conditions.fps_B,
        padding_mask_B1HW=conditions.padding_mask_B1HW,
        condition_mask_B1THW=mask_B1THW,
        control=conditions.control,
        origin_thw=conditions.origin_thw,
    )
    x0_BCTHW = scale.c_skip * x_BCTHW + scale.c_out * output_BCTHW.float()
    return x0_BCTHW if frames is None else frames.keep(x0_BCTHW)
