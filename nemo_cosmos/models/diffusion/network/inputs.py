"""What the diffusion transformer is given, checked and made ready for its first layer.

Shape suffixes: B batch, C channels (of latent or text), T latent frames, H W latent rows
and columns, M text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from nemo_cosmos.errors import ConfigError, WrongFrameCountError, WrongSizeError
from nemo_cosmos.models.common.attention.core import KeysValues
from nemo_cosmos.models.common.rope import RopeTable
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding
from nemo_cosmos.models.diffusion.network.views import CameraViews


@dataclass(frozen=True)
class TextKeysValues:
    """The text's keys and values in every layer, computed once for all steps of a sampler.

    :meth:`DiT.encode_text` makes them; :attr:`NetworkInput.text` takes them in place of the text.

    Attributes:
        layers: keys and values for each layer of this pipeline stage.
    """

    layers: list[KeysValues]


@dataclass(frozen=True)
class Places:
    """What the layers see of the tokens' places, computed once for all steps of a sampler.

    :meth:`DiT.encode_places` makes it.

    Attributes:
        rope: cosines and sines of the rotary embedding.
        position_L1E: learned position embedding; None without one.
    """

    rope: RopeTable
    position_L1E: torch.Tensor | None


# A dataclass and not a tuple: mixed-precision wrappers round the float32 tensors that they find
# among a module's arguments, in tuples too, and bfloat16 is too coarse for noise level and fps.
@dataclass(frozen=True)
class NetworkInput:
    """Everything that the network sees of samples of one shape.

    Attributes:
        x_BCTHW: noisy latent, already scaled by the preconditioning's ``c_in``.
        c_noise: a quarter of the noise level's natural logarithm, (B,) or, with a noise level for
            each latent frame, (B, T).
        text: text embedding (B, M, C), zero beyond its length, or its keys and values; (B, V, M, C)
            where each view that ``x_BCTHW`` holds has a text of its own.
        fps_B: frame rate of each sample in Hz; None counts time at the base rate (images).
        padding_mask_B1HW: 1 where the picture is padding, at any resolution; None for no padding.
        condition_mask_B1THW: 1 on the latent frames that are given; None where none is.
        control: what the controls add; None without any.
        origin_thw: position of the first token, where the latent is a context-parallel rank's box
            of a larger one (:mod:`~nemo_cosmos.models.diffusion.parallel.cp_box`).
        views: the cameras, where the latent holds those of several one after another along time;
            None for a network of one.
        places: of the latent's tokens at ``fps_B`` and ``origin_thw``; computed where None.
    """

    x_BCTHW: torch.Tensor
    c_noise: torch.Tensor
    text: torch.Tensor | TextKeysValues
    fps_B: torch.Tensor | None = None
    padding_mask_B1HW: torch.Tensor | None = None
    condition_mask_B1THW: torch.Tensor | None = None
    control: ControlEmbedding | None = None
    origin_thw: tuple[int, int, int] = (0, 0, 0)
    places: Places | None = None
    views: CameraViews | None = None

    @property
    def num_views(self) -> int:
        """Number of views of the whole latent."""
        return 1 if self.views is None else self.views.num_views

    def token_grid(self, config: DiTConfig) -> tuple[int, int, int]:
        """Tokens along time, height and width; see :func:`token_grid`."""
        return token_grid(self.x_BCTHW.shape[2:], config, self.num_views)


def stack_channels(inputs: NetworkInput, config: DiTConfig, dtype: torch.dtype) -> torch.Tensor:
    """Stack latent, condition mask, control channels and padding mask, in this order.

    Raises:
        ConfigError: the network was built for other channels.
    """
    batch, _, time, height, width = inputs.x_BCTHW.shape
    channels = [inputs.x_BCTHW.to(dtype)]
    if config.condition_mask:
        mask_B1THW = inputs.condition_mask_B1THW
        if mask_B1THW is None:
            mask_B1THW = inputs.x_BCTHW.new_zeros(batch, 1, time, height, width)
        channels.append(mask_B1THW.to(dtype))
    elif inputs.condition_mask_B1THW is not None:
        raise ConfigError(
            "A condition mask was given to a network that was built without one "
            "(condition_mask=False, Text2World). Use a Video2World preset."
        )
    if inputs.control is not None and inputs.control.latent_channels_BCTHW is not None:
        channels.append(inputs.control.latent_channels_BCTHW.to(dtype))
    if config.concat_padding_mask:
        padding_B1HW = inputs.padding_mask_B1HW
        if padding_B1HW is None:
            padding_B1HW = inputs.x_BCTHW.new_zeros(batch, 1, height, width)
        padding_B1HW = F.interpolate(padding_B1HW.to(dtype), size=(height, width))
        channels.append(padding_B1HW[:, :, None].expand(batch, 1, time, height, width))
    stacked = torch.cat(channels, dim=1)
    if stacked.shape[1] != config.input_channels:
        raise ConfigError(
            f"The network's input has {stacked.shape[1]} channels, but it was built for "
            f"{config.input_channels}: {config.in_channels} of the latent, "
            f"{config.control_channels} of a control and the masks. Check the latent's "
            "channels and the control's."
        )
    return stacked


def token_grid(
    latent_thw: Sequence[int], config: DiTConfig, num_views: int = 1
) -> tuple[int, int, int]:
    """Tokens along time, height and width, after a check that the latent divides into patches.

    Args:
        latent_thw: latent frames of all views, rows and columns.
        config: the network's configuration.
        num_views: number of views.

    Raises:
        WrongFrameCountError: the network does not take this number of frames.
        WrongSizeError: the network does not take this height or width.
    """
    time, height, width = latent_thw
    if time % config.patch_temporal or not 0 < time <= config.max_frames * num_views:
        of_views = f" of {num_views} views" if num_views > 1 else ""
        raise WrongFrameCountError(
            f"The latent has {time} frames{of_views}, but this network takes up to "
            f"{config.max_frames * num_views}, in steps of {config.patch_temporal}. Generate a "
            "shorter video, or extend one."
        )
    for name, size, limit in (
        ("height", height, config.max_height),
        ("width", width, config.max_width),
    ):
        if size % config.patch_spatial or not 0 < size <= limit:
            step = config.patch_spatial
            nearest = min(max(round(size / step), 1), limit // step) * step
            raise WrongSizeError(
                f"The latent's {name} is {size}, but this network takes multiples of {step} "
                f"up to {limit}. The nearest is {nearest}."
            )
    return (
        time // config.patch_temporal,
        height // config.patch_spatial,
        width // config.patch_spatial,
    )
