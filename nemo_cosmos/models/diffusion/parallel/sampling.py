"""Sampling with one network on several ranks.

Tensor-parallel ranks compute the same sample together and need nothing here. Pipeline stages take
turns at every evaluation of the network (:mod:`~nemo_cosmos.models.diffusion.parallel.pipelined`).
Each context-parallel rank holds a box of the video: noise and conditions are cut once, before the
first step, and the boxes are joined after the last.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict, Unpack

from megatron.core import parallel_state
from torch import Tensor

from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.network.views import own_texts
from nemo_cosmos.models.diffusion.parallel.cp_box import LatentBox
from nemo_cosmos.models.diffusion.parallel.pipelined import PipelinedDiT
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.denoiser import SamplingInputs, make_denoiser
from nemo_cosmos.models.diffusion.process.samplers import sample
from nemo_cosmos.progress import Progress


class SamplerOptions(TypedDict, total=False):
    """The keyword arguments of :func:`~nemo_cosmos.models.diffusion.process.samplers.sample`."""

    sampler: str
    num_steps: int
    sigma_min: float
    sigma_max: float
    rho: float
    progress: Progress | None


def sample_on_all(
    net: DiT,
    given: SamplingInputs,
    config: DiffusionConfig,
    noise_BCTHW: Tensor,
    **options: Unpack[SamplerOptions],
) -> Tensor:
    """Draw a sample; every rank of the network calls it.

    Args:
        net: the network, or this rank's part of it.
        given: what to generate from, for the whole video.
        config: the diffusion process.
        noise_BCTHW: noise for the whole video, the same on every rank.
        **options: the sampler and its settings.

    Returns:
        x0_BCTHW of the whole video, on every rank.

    Raises:
        ConfigError: the video's tokens do not divide over the context-parallel ranks, a rank has
            several pipeline stages, or the sampler's settings are wrong.
        NumericsError: the sample holds NaN or infinity.
    """
    whole = net if net.pp_group.size() == 1 else PipelinedDiT(net)
    group = parallel_state.get_context_parallel_group()
    if group.size() == 1:
        return sample(make_denoiser(whole, given, config), noise_BCTHW, **options)
    whole_thw = noise_BCTHW.shape[2:]
    box = LatentBox.of(whole_thw, net.config.patch_thw, group.size(), group.rank())
    denoiser = make_denoiser(whole, _cut(given, box), config)
    return box.join(sample(denoiser, box.cut(noise_BCTHW), **options), group)


def _cut(given: SamplingInputs, box: LatentBox) -> SamplingInputs:
    """What belongs to this rank's box of the video."""
    frames, control, padding = given.frames, given.control, given.padding_mask_B1HW
    text, uncond_text = given.text_BLD, given.uncond_text_BLD
    if given.views is not None:
        text, uncond_text = (
            one if one.dim() == 3 else own_texts(one, box.whole_views(given.views.num_views))
            for one in (text, uncond_text)
        )
    if frames is not None:
        frames = replace(
            frames,
            x0_BCTHW=box.cut(frames.x0_BCTHW),
            given_B1T11=box.cut(frames.given_B1T11),
            mask_B1T11=box.cut(frames.mask_B1T11),
            noise_BCTHW=box.cut(frames.noise_BCTHW),
        )
    return replace(
        given,
        text_BLD=text,
        uncond_text_BLD=uncond_text,
        frames=frames,
        control=None if control is None else box.cut_control(control),
        padding_mask_B1HW=None if padding is None else box.cut_padding(padding),
        origin_thw=box.origin_thw,
    )
