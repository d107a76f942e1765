"""What the diffusion transformer is given, checked and made ready for its first layer.

Shape suffixes: B batch, C channels, T latent frames, H W latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from nemo_cosmos.errors import ConfigError, WrongFrameCountError, WrongSizeError
from nemo_cosmos.models.common.attention.core import KeysValues
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding


@dataclass
class TextKeysValues:
    """The text's keys and values in every layer, computed once for all steps of a sampler.

    Made by :meth:`DiT.encode_text`; given to :meth:`DiT.forward` in place of the text.
    """

    layers: list[KeysValues]


class NetworkInput(NamedTuple):
    """The arguments of :meth:`DiT.forward` for samples of one shape."""

    x_BCTHW: torch.Tensor
    c_noise: torch.Tensor
    text_BLD: torch.Tensor | TextKeysValues
    fps_B: torch.Tensor | None
    padding_mask_B1HW: torch.Tensor | None
    condition_mask_B1THW: torch.Tensor | None
    control: ControlEmbedding | None
    origin_thw: tuple[int, int, int] | None = None

    def samples(self) -> list[NetworkInput]:
        """The samples of a pack, whose arguments are lists.

        Raises:
            ConfigError: a list of another length than the others.
        """
        size = len(self.x_BCTHW)
        for name, values in self._asdict().items():
            if values is not None and (isinstance(values, torch.Tensor) or len(values) != size):
                raise ConfigError(
                    f"A pack of {size} latents was given {name} of another kind or length. For a "
                    f"pack, give each argument as a list of {size}, or None."
                )
        lists: list[Any] = [[None] * size if value is None else value for value in self]
        return [NetworkInput(*values) for values in zip(*lists, strict=True)]


def stack_channels(given: NetworkInput, config: DiTConfig, dtype: torch.dtype) -> torch.Tensor:
    """Stack latent, condition mask, control channels and padding mask, in this order."""
    x_BCTHW, control = given.x_BCTHW, given.control or ControlEmbedding()
    padding_mask_B1HW, condition_mask_B1THW = given.padding_mask_B1HW, given.condition_mask_B1THW
    batch, _, time, height, width = x_BCTHW.shape
    channels = [x_BCTHW.to(dtype)]
    if config.condition_mask:
        if condition_mask_B1THW is None:
            condition_mask_B1THW = x_BCTHW.new_zeros(batch, 1, time, height, width)
        channels.append(condition_mask_B1THW.to(dtype))
    elif condition_mask_B1THW is not None:
        raise ConfigError(
            "A condition mask was given to a network that was built without one "
            "(condition_mask=False, Text2World). Use a Video2World preset."
        )
    if control.latent_channels_BCTHW is not None:
        channels.append(control.latent_channels_BCTHW.to(dtype))
    if config.concat_padding_mask:
        if padding_mask_B1HW is None:
            padding_mask_B1HW = x_BCTHW.new_zeros(batch, 1, height, width)
        mask_B1HW = F.interpolate(padding_mask_B1HW.to(dtype), size=(height, width))
        channels.append(mask_B1HW[:, :, None].expand(batch, 1, time, height, width))
    stacked = torch.cat(channels, dim=1)
    if stacked.shape[1] != config.input_channels:
        raise ConfigError(
            f"The network's input has {stacked.shape[1]} channels, but it was built for "
            f"{config.input_channels}: {config.in_channels} of the latent, "
            f"{config.control_channels} of a control and the masks. Check the latent's "
            "channels and the control's."
        )
    return stacked


def token_grid(latent_thw: Sequence[int], config: DiTConfig) -> tuple[int, int, int]:
    """Tokens along time, height and width; checks that the latent can be cut so.

    Args:
        latent_thw: latent frames, rows and columns.
        config: of the network.

    Raises:
        WrongFrameCountError: the network does not take so many frames.
        WrongSizeError: or not such a size.
    """
    time, height, width = latent_thw
    if time % config.patch_temporal or not 0 < time <= config.max_frames:
        raise WrongFrameCountError(
            f"The latent has {time} frames, but this network takes up to {config.max_frames}, "
            f"in steps of {config.patch_temporal}. Generate a shorter video, or extend one."
        )
    for name, size, limit in (
        ("height", height, config.max_height),
        ("width", width, config.max_width),
    ):
        if size % config.patch_spatial or not 0 < size <= limit:
            step = config.patch_spatial
            nearest = min(max(round(size / step), 1) * step, limit)
            raise WrongSizeError(
                f"The latent's {name} is {size}, but this network takes multiples of {step} "
                f"up to {limit}. The nearest is {nearest}."
            )
    return (
        time // config.patch_temporal,
        height // config.patch_spatial,
        width // config.patch_spatial,
    )
