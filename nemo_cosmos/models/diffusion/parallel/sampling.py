"""Sampling with one network on several ranks.

Tensor-parallel ranks compute the same sample together and need nothing here. Pipeline stages take
turns at every evaluation of the network (:mod:`~nemo_cosmos.models.diffusion.parallel.pipelined`).
Each context-parallel rank holds a part of the video: noise and conditions are cut once, before the
first step, and the parts are joined after the last.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from megatron.core import parallel_state
from torch import Tensor

from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.models.diffusion.parallel.cp_box import LatentBox
from nemo_cosmos.models.diffusion.parallel.pipelined import PipelinedDiT
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.denoiser import SamplingInputs, make_denoiser
from nemo_cosmos.models.diffusion.process.samplers import sample


def sample_on_all(
    net: DiT,
    conditions: SamplingInputs,
    config: DiffusionConfig,
    noise_BCTHW: Tensor,
    **options: Any,
) -> Tensor:
    """Draw a sample; every process of the network calls it.

    Args:
        net: the network, or this process's part of it.
        conditions: of the whole video.
        config: of the process.
        noise_BCTHW: of the whole video, the same on every process.
        **options: of :func:`~nemo_cosmos.models.diffusion.process.samplers.sample`.

    Returns:
        x0_BCTHW of the whole video, on every process.

    Raises:
        ConfigError: the video's tokens do not divide over the context-parallel processes, or a
            process has several pipeline stages; or as
            :func:`~nemo_cosmos.models.diffusion.process.samplers.sample`.
    """
    whole = net if net.pp_group.size() == 1 else PipelinedDiT(net)
    group = parallel_state.get_context_parallel_group()
    if group.size() == 1:
        return sample(make_denoiser(whole, conditions, config), noise_BCTHW, **options)
    whole_thw = noise_BCTHW.shape[2:]
    window = LatentBox.of(whole_thw, net.config.patch_thw, group.size(), group.rank())
    denoiser = make_denoiser(whole, _cut(conditions, window), config)
    return window.join(sample(denoiser, window.cut(noise_BCTHW), **options), group)


def _cut(conditions: SamplingInputs, window: LatentBox) -> SamplingInputs:
    frames, control, padding = conditions.frames, conditions.control, conditions.padding_mask_B1HW
    if frames is not None:
        frames = replace(
            frames,
            x0_BCTHW=window.cut(frames.x0_BCTHW),
            given_B1T11=window.cut(frames.given_B1T11),
            mask_B1T11=window.cut(frames.mask_B1T11),
            noise_BCTHW=window.cut(frames.noise_BCTHW),
        )
    return replace(
        conditions,
        frames=frames,
        control=None if control is None else window.cut_control(control),
        padding_mask_B1HW=None if padding is None else window.cut_padding(padding),
        origin_thw=window.origin_thw,
    )
