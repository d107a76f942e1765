"""Mean and standard deviation of latents: diffusion models are trained on latents in these units.

Shape suffixes: B batch, C channels, T latent frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nemo_cosmos.errors import CheckpointError, InputError, NumericsError
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork


@dataclass(frozen=True)
class LatentStats:
    """Statistics for each channel, (C,), or each channel and latent frame, (C,T), as the reference.

    Videos longer than T latent frames use the last column for the rest: after the first frame,
    which covers one frame of pixels instead of f, the statistics hardly change.

    Attributes:
        mean: float32, (C,) or (C,T).
        std: float32, of the same shape, above 0.
    """

    mean: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        if self.mean.shape != self.std.shape or self.mean.ndim not in (1, 2):
            raise InputError(
                f"Latent statistics have shapes {tuple(self.mean.shape)} (mean) and "
                f"{tuple(self.std.shape)} (std); both must be (channels,) or (channels, frames)."
            )
        if not (self.mean.isfinite().all() and self.std.isfinite().all() and (self.std > 0).all()):
            raise NumericsError(
                "Latent statistics must be finite with a standard deviation above 0 in every "
                f"channel; the smallest is {self.std.min():.3g}. Compute them again over more, "
                "and more varied, videos."
            )

    def normalise(self, latents_BCTHW: Tensor) -> Tensor:
        """(z - mean) / std."""
        mean, std = self._for(latents_BCTHW)
        return (latents_BCTHW - mean) / std

    def denormalise(self, latents_BCTHW: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`."""
        mean, std = self._for(latents_BCTHW)
        return latents_BCTHW * std + mean

    def save(self, path: Path) -> None:
        """Write ``mean`` and ``std`` as safetensors."""
        save_file({"mean": self.mean.contiguous(), "std": self.std.contiguous()}, path)

    @classmethod
    def load(cls, path: Path) -> LatentStats:
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: the file is damaged or lacks a tensor.
        """
        try:
            tensors = load_file(path)
            return cls(tensors["mean"].float(), tensors["std"].float())
        except (SafetensorError, KeyError, OSError) as error:
            raise CheckpointError(
                f"'{path}' does not hold the tensors 'mean' and 'std' of a tokenizer's latents "
                f"({error}). Compute them again with `compute_latent_stats`."
            ) from error

    def _for(self, latents_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std broadcastable to the latents."""
        num_frames = latents_BCTHW.shape[2]
        both = []
        for values in (self.mean, self.std):
            columns = values.to(latents_BCTHW).reshape(values.shape[0], -1)
            index = torch.arange(num_frames, device=columns.device).clamp(max=columns.shape[1] - 1)
            both.append(columns[:, index, None, None])
        return both[0], both[1]


@torch.inference_mode()
def compute_latent_stats(
    net: TokenizerNetwork, videos_BCTHW: Iterable[Tensor], per_frame: bool = False
) -> LatentStats:
    """Measure the latents of a continuous tokenizer over a data set.

    Args:
        net: the trained network.
        videos_BCTHW: batches in [-1, 1], all of one length where ``per_frame``.
        per_frame: whether each latent frame has its own statistics, (C,T) instead of (C,).

    Raises:
        InputError: the tokenizer is discrete, there is no video, or lengths differ.
        NumericsError: the latents are not finite or constant in a channel.
    """
    if net.config.discrete:
        raise InputError(
            f"Tokenizer '{net.config.name}' is discrete: its codes have no mean or standard "
            "deviation. Only continuous tokenizers (CI, CV) are normalised."
        )
    weight = next(net.parameters())
    was_training = net.training
    net.eval()
    moments, count = torch.zeros(0), 0
    for video_BCTHW in videos_BCTHW:
        z_BCTHW = net.encode(video_BCTHW.to(weight)).double().cpu()
        sums_2CT = torch.stack([z_BCTHW.sum((0, 3, 4)), z_BCTHW.square().sum((0, 3, 4))])
        if not per_frame:
            sums_2CT = sums_2CT.sum(-1, keepdim=True)
        if count and sums_2CT.shape != moments.shape:
            raise InputError(
                f"A video of {sums_2CT.shape[2]} latent frames follows others of "
                f"{moments.shape[2]}. Statistics per frame need videos of one length; cut them "
                "to it, or leave per_frame off."
            )
        moments = sums_2CT if not count else moments + sums_2CT
        count += z_BCTHW[:, 0].numel() // sums_2CT.shape[2]
    net.train(was_training)
    if not count:
        raise InputError("There is no video to measure latents on. Pass at least one batch.")
    mean, mean_square = (moments / count).unbind(0)
    std = (mean_square - mean.square()).clamp(min=0).sqrt()
    if not per_frame:
        mean, std = mean[:, 0], std[:, 0]
    return LatentStats(mean.float(), std.float())
