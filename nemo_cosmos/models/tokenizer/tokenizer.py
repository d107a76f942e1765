"""A tokenizer ready for use: network, normalisation and folder in one object.

The folder holds ``config.json`` (``{"format": "nemo_cosmos.tokenizer", "version": 1, "network":
{...}}``), ``model.safetensors`` and, for continuous tokenizers, ``latent_stats.safetensors``.

Shape suffixes: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nemo_cosmos.errors import CheckpointError, InputError, MissingFileError, NumericsError
from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.identity import encoder_sha256
from nemo_cosmos.models.tokenizer.latent_stats import LatentStats, compute_latent_stats
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.network.streaming import (
    StreamingDecoder,
    StreamingEncoder,
    chunk_bounds,
)
from nemo_cosmos.platform import set_float32_kernels
from nemo_cosmos.storage import atomic_path, exported_folder

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
STATS_FILE = "latent_stats.safetensors"
_FORMAT = "nemo_cosmos.tokenizer"
_VERSION = 1


class VideoTokenizer(nn.Module):
    """Videos to normalised latents (or code indices) and back; images are videos of one frame.

    Args:
        net: the network.
        stats: mean and standard deviation of its latents; None leaves latents unchanged (discrete
            tokenizers have none).
    """

    def __init__(self, net: TokenizerNetwork, stats: LatentStats | None = None) -> None:
        super().__init__()
        set_float32_kernels()
        self.net = net.eval().requires_grad_(False)
        self.stats = stats

    @property
    def config(self) -> TokenizerConfig:
        """The network's configuration."""
        return self.net.config

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights, in which the network computes."""
        return next(self.net.parameters()).dtype

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (C,t,h,w) of one video's latents; see :meth:`TokenizerConfig.latent_shape`."""
        return self.config.latent_shape(num_frames, height, width)

    @torch.inference_mode()
    def encode(self, video_BCTHW: Tensor, chunk_frames: int | None = None) -> Tensor:
        """Turn pixels into latents.

        Args:
            video_BCTHW: (B,3,1+f n,H,W), floating point in [-1, 1].
            chunk_frames: number of frames that are encoded at a time, 1 + f m with m > 0 (later
                chunks have one frame less). The result is the same and memory no longer grows with
                the video. None is one pass.

        Returns:
            Normalised latents (B,C,1+n,H/s,W/s), float32, or code indices (B,1+n,H/s,W/s), int32.

        Raises:
            WrongFrameCountError: the number of frames, or ``chunk_frames``, is not 1 + f n.
            WrongSizeError: a side is not a multiple of the spatial factor.
            NumericsError: the video holds NaN or infinity.
        """
        self.config.check_video(tuple(video_BCTHW.shape))
        _check_pixels(video_BCTHW)
        video_BCTHW = video_BCTHW.to(self.dtype)
        if chunk_frames is None:
            latents = self.net.encode(video_BCTHW)
        else:
            step = self._latents_a_chunk(chunk_frames) * self.config.temporal_factor
            stream = StreamingEncoder(self.net.encode, self.config.temporal_factor)
            bounds = chunk_bounds(video_BCTHW.shape[2], 1 + step, step)
            latents = _concat([stream.push(video_BCTHW[:, :, a:b]) for a, b in bounds])
        return latents if self.config.discrete else self._normalise(latents)

    @torch.inference_mode()
    def decode(self, latents: Tensor, chunk_frames: int | None = None) -> Tensor:
        """Turn latents back into pixels.

        Args:
            latents: what :meth:`encode` returned, or a model made.
            chunk_frames: number of frames that are decoded at a time, 1 + f m with m > 0. The
                result is the same and memory no longer grows with the video. None is one pass.

        Returns:
            (B,3,T,H,W) float32, clamped to [-1, 1].

        Raises:
            InputError: the latents have the wrong shape, or indices are not of the codebook.
            NumericsError: the latents hold NaN or infinity.
        """
        self._check_latents(latents)
        if not self.config.discrete:
            latents = self._denormalise(latents).to(self.dtype)
        if chunk_frames is None:
            video_BCTHW = self.net.decode(latents)
        else:
            step = self._latents_a_chunk(chunk_frames)
            stream = StreamingDecoder(self.net.decode)
            time = 1 if self.config.discrete else 2
            bounds = list(chunk_bounds(latents.shape[time], 1 + step, step))
            chunks = latents.split([b - a for a, b in bounds], dim=time)
            video_BCTHW = _concat([stream.push(chunk) for chunk in chunks])
        return video_BCTHW.float().clamp(-1, 1)

    def with_measured_stats(self, videos: Iterable[Tensor]) -> Self:
        """Return this tokenizer with latent statistics that are measured on videos.

        Args:
            videos: batches (B,3,T,H,W) in [-1, 1].
        """
        return type(self)(self.net, compute_latent_stats(self.net, videos))

    def describe(self) -> dict[str, object]:
        """Return what identifies its latents, as ``dataset.json`` and ``config.json`` record it.

        Returns:
            the preset's name, the hash of the encoder's weights and the latents' statistics.
        """
        stats = self.stats
        return {
            "tokenizer_name": self.config.name,
            "encoder_sha256": encoder_sha256(self.net),
            "latent_stats": None
            if stats is None
            else {"mean": stats.mean.tolist(), "std": stats.std.tolist()},
        }

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the folder; a reader sees the old one or the new one, never a part."""
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            config = {
                "format": _FORMAT,
                "version": _VERSION,
                "preset": self.config.name,
                "network": self.config.to_dict(),
            }
            (temporary / CONFIG_FILE).write_text(
                json.dumps(config, indent=2) + "\n", encoding="utf-8"
            )
            state = {k: v.cpu().contiguous() for k, v in self.net.state_dict().items()}
            save_file(state, temporary / WEIGHTS_FILE)
            if self.stats is not None:
                self.stats.save(temporary / STATS_FILE)

    @classmethod
    def from_folder(cls, folder: str | PathLike[str], dtype: torch.dtype = torch.float32) -> Self:
        """Read what :meth:`save` wrote.

        Args:
            folder: the tokenizer folder, or that of the run that exported it.
            dtype: precision of the network.

        Raises:
            MissingFileError: the folder or one of its files does not exist.
            CheckpointError: a file is damaged or does not fit the others.
        """
        root = exported_folder(folder)
        config = _read_config(root / CONFIG_FILE)
        net = TokenizerNetwork(config)
        try:
            net.load_state_dict(load_file(_existing(root / WEIGHTS_FILE)))
        except (RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"'{root / WEIGHTS_FILE}' does not hold the weights of tokenizer '{config.name}' "
                f"that '{CONFIG_FILE}' describes: {error}. Export or copy the folder again."
            ) from error
        stats_file = root / STATS_FILE
        stats = LatentStats.load(stats_file) if stats_file.exists() else None
        if stats is not None and (config.discrete or len(stats.mean) != config.latent_channels):
            wanted = "none" if config.discrete else f"{config.latent_channels} channels"
            raise CheckpointError(
                f"'{stats_file}' holds statistics of {len(stats.mean)} channels, but tokenizer "
                f"'{config.name}' has {wanted}. It is another tokenizer's; copy the folder again."
            )
        return cls(net.to(dtype), stats)

    def _normalise(self, latents_BCTHW: Tensor) -> Tensor:
        latents_BCTHW = latents_BCTHW.float()
        return latents_BCTHW if self.stats is None else self.stats.normalise(latents_BCTHW)

    def _denormalise(self, latents_BCTHW: Tensor) -> Tensor:
        latents_BCTHW = latents_BCTHW.float()
        return latents_BCTHW if self.stats is None else self.stats.denormalise(latents_BCTHW)

    def _check_latents(self, latents: Tensor) -> None:
        if self.config.discrete:
            return  # the quantiser checks indices
        channels = self.config.latent_channels
        if latents.ndim != 5 or latents.shape[1] != channels or latents.shape[2] < 1:
            raise InputError(
                f"Tokenizer '{self.config.name}' decodes latents (batch, {channels}, frames, "
                f"height, width), not {tuple(latents.shape)}. Pass what `encode` returned."
            )
        if not latents.isfinite().all():
            raise NumericsError(
                f"The latents hold {_num_bad(latents)} values that are NaN or infinite; nothing "
                "was decoded. Look for the step that made them (a diverged model, too low a "
                "precision) rather than replacing them."
            )

    def _latents_a_chunk(self, chunk_frames: int) -> int:
        """Latent frames of a chunk after the first."""
        self.config.check_num_frames(chunk_frames)
        return max(1, self.config.num_latent_frames(chunk_frames) - 1)


def _check_pixels(video_BCTHW: Tensor) -> None:
    if not video_BCTHW.is_floating_point():
        raise InputError(
            f"The video is of type {video_BCTHW.dtype}; a tokenizer takes floating point in "
            "[-1, 1]. Convert bytes with `video / 127.5 - 1`."
        )
    if not video_BCTHW.isfinite().all():
        raise NumericsError(
            f"The video holds {_num_bad(video_BCTHW)} pixels that are NaN or infinite; nothing "
            "was encoded. Look for the step that made them (a division by zero, a bad decode)."
        )


def _num_bad(x: Tensor) -> int:
    return int((~x.isfinite()).sum())


def _concat(chunks: list[Tensor]) -> Tensor:
    """Join along time, which is dimension 2 of latents and pixels, 1 of code indices."""
    return torch.cat(chunks, dim=chunks[0].ndim - 3)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise MissingFileError(
            f"There is no file '{path}'. A tokenizer folder holds {CONFIG_FILE}, {WEIGHTS_FILE} "
            f"and, if continuous, {STATS_FILE}; check the path, or train and export a tokenizer."
        )
    return path


def read_tokenizer_config(folder: str | PathLike[str]) -> TokenizerConfig:
    """Read the configuration of a tokenizer folder, without its weights.

    Raises:
        MissingFileError, CheckpointError: there is none, or it is damaged.
    """
    return _read_config(exported_folder(folder) / CONFIG_FILE)


def _read_config(path: Path) -> TokenizerConfig:
    try:
        data = json.loads(_existing(path).read_text(encoding="utf-8"))
        if data["format"] != _FORMAT or data["version"] != _VERSION:
            raise CheckpointError(
                f"'{path}' is of format '{data['format']}' version {data['version']}; expected "
                f"'{_FORMAT}' version {_VERSION}. It is not a tokenizer folder of this release."
            )
        return TokenizerConfig.from_dict(data["network"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"'{path}' is not the configuration of a tokenizer ({type(error).__name__}: {error}). "
            "Export or copy the folder again."
        ) from error
