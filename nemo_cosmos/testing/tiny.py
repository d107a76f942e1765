"""Tokenizers, tokenised data and worlds of the smallest size, for tests.

Everything is real, but for its size and its random weights, and the same for the same arguments:
:func:`tiny_tokenizer`, :func:`write_latents` for what ``nemo-cosmos tokenize`` writes, and
:func:`write_world` and :func:`write_ar_world` for what training exports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nemo_cosmos.controls import ControlSpec, encode_arrays
from nemo_cosmos.data.loading.latents import pack_codes, pack_embedding, pack_latent
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.writer import ShardWriter

if TYPE_CHECKING:
    from nemo_cosmos.models.autoregressive.network.config import ARConfig
    from nemo_cosmos.models.diffusion.network.config import DiTConfig
    from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

ACTION_DIM = 7
LATENT_CHANNELS = 16
MAX_SHARD_BYTES = 60_000
"""A few samples: most tests want more than one shard."""


@dataclass(frozen=True)
class Clips:
    """What the samples of a tiny data set are like.

    Attributes:
        num_samples: number of samples.
        num_frames: pixel frames of each.
        height: height in pixels.
        width: width in pixels.
        fps: frame rate in Hz.
        text_tokens: tokens of a caption's embedding.
        text_dim: channels of the embedding.
        temporal_factor: pixel frames of a latent frame, but for the first.
        spatial_factor: pixels of a latent row or column.
        with_actions: whether each has an action between any two frames.
        with_camera: whether each has a camera that turns and goes.
        num_codes: codes of a discrete tokenizer to write in place of latents; 0 for latents.
        seed: seed of latents, embeddings and actions.
    """

    num_samples: int = 8
    num_frames: int = 9
    height: int = 32
    width: int = 32
    fps: float = 10.0
    text_tokens: int = 3
    text_dim: int = 12
    temporal_factor: int = 4
    spatial_factor: int = 8
    with_actions: bool = False
    with_camera: bool = False
    num_codes: int = 0
    seed: int = 0

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Shape (C,T,H,W) of a latent."""
        frames = 1 + (self.num_frames - 1) // self.temporal_factor
        rows, columns = self.height // self.spatial_factor, self.width // self.spatial_factor
        return LATENT_CHANNELS, frames, rows, columns

    def record(self, number: int) -> ClipRecord:
        """The description of a sample."""
        return ClipRecord(
            key=f"s{number}",
            source="film.mp4",
            span_s=(0.0, self.num_frames / self.fps),
            fps=self.fps,
            num_frames=self.num_frames,
            width=self.width,
            height=self.height,
            caption="the arm moves",
        )


def tiny_tokenizer(preset: str = "tokenizer_nano_cv4x8x8", **changes: Any) -> VideoTokenizer:
    """A tokenizer of random weights.

    Args:
        preset: the preset whose factors it has.
        **changes: fields of the preset to change; by default 8 channels and one block.
    """
    from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
    from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
    from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

    changes = {"channels": 8, "num_res_blocks": 1} | changes
    return VideoTokenizer(TokenizerNetwork(replace(TOKENIZERS[preset], **changes)))


def write_latents(
    folder: str | PathLike[str],
    clips: Clips | None = None,
    *,
    tokenizer: str | PathLike[str] | None = None,
    text_encoder: Mapping[str, object] | None = None,
) -> Path:
    """Write tokenised data: shards, and the ``dataset.json`` that an export reads.

    Args:
        folder: made where it does not exist.
        clips: what the samples are like.
        tokenizer: folder of their tokenizer; by default a tiny one is written beside the shards.
        text_encoder: the encoder of the captions; by default the embedded one.

    Returns:
        The folder.
    """
    clips, folder = clips or Clips(), Path(folder)
    generator = torch.Generator().manual_seed(clips.seed)
    with ShardWriter(folder, max_bytes=MAX_SHARD_BYTES) as writer:
        for number in range(clips.num_samples):
            content = _content(clips, generator)
            text = torch.randn(clips.text_tokens, clips.text_dim, generator=generator)
            files = {**content, "t5.safetensors": pack_embedding(text)}
            if clips.with_actions:
                actions = torch.randn(clips.num_frames - 1, ACTION_DIM, generator=generator)
                files["action.npy"] = encode_arrays(
                    "action.npy", {"action": actions.numpy().astype(np.float32)}
                )
            if clips.with_camera:
                files["camera.npz"] = encode_arrays("camera.npz", _camera(clips, number))
            writer.add(clips.record(number), files)
    if tokenizer is None:
        kind = "d" if clips.num_codes else "c"
        tiny_tokenizer(f"tokenizer_nano_{kind}v4x8x8").save(folder / "tokenizer")
    encoder = {"kind": "embedded", "path": None, "max_length": 8, "dim": clips.text_dim}
    description = {
        "tokenizer": "tokenizer" if tokenizer is None else str(tokenizer),
        "text_encoder": dict(text_encoder or encoder),
        "window": {"window_frames": clips.num_frames, "size": [clips.height, clips.width]},
    }
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


def _camera(clips: Clips, number: int) -> dict[str, np.ndarray]:
    """A camera that turns about its vertical and goes on, each sample's at a speed of its own."""
    turned_T = 0.02 * (number + 1) * np.arange(clips.num_frames)
    poses_T44 = np.tile(np.eye(4), (clips.num_frames, 1, 1))
    poses_T44[:, 0, 0] = poses_T44[:, 2, 2] = np.cos(turned_T)
    poses_T44[:, 0, 2], poses_T44[:, 2, 0] = np.sin(turned_T), -np.sin(turned_T)
    poses_T44[:, 2, 3] = 3 * turned_T
    lens_33 = np.array([[40.0, 0, clips.width / 2], [0, 40, clips.height / 2], [0, 0, 1]])
    return {
        "poses": poses_T44,
        "intrinsics": np.tile(lens_33, (clips.num_frames, 1, 1)),
        "size": np.array([clips.height, clips.width]),
    }


def _content(clips: Clips, generator: torch.Generator) -> dict[str, bytes]:
    """A latent or codes; all frames of a video have the same codes, which can be learnt."""
    if not clips.num_codes:
        latent = torch.randn(clips.latent_shape, generator=generator)
        return {"latent.safetensors": pack_latent(latent)}
    _, frames, *sides = clips.latent_shape
    codes = torch.randint(clips.num_codes, (1, *sides), generator=generator)
    return {"codes.safetensors": pack_codes(codes.expand(frames, -1, -1).contiguous())}


def tiny_network(**changes: Any) -> DiTConfig:
    """The configuration of a diffusion transformer of two layers.

    Args:
        **changes: fields to change.
    """
    from nemo_cosmos.models.diffusion.network.config import DiTConfig

    fields: dict[str, Any] = {
        "num_layers": 2,
        "hidden_size": 48,
        "num_attention_heads": 2,
        "crossattn_emb_channels": Clips.text_dim,
        "adaln_lora_dim": 8,
        "max_frames": 4,
        "max_height": 16,
        "max_width": 16,
        "condition_mask": True,
        "layer_spec": "local",
    }
    return DiTConfig(**fields | changes)


def write_world(
    folder: str | PathLike[str],
    *,
    controls: Sequence[str | ControlSpec] = (),
    text_encoder: Mapping[str, object] | None = None,
    std: float = 0.1,
    control_dropout: float = 0.0,
    max_given_views: int = 0,
    **network: object,
) -> Path:
    """Write a world folder of random weights: 9 frames of 32x48 pixels.

    Args:
        folder: a former one is replaced.
        controls: names of what steers it, or with options.
        text_encoder: the encoder that it was trained with; by default the embedded one.
        std: spread of the weights; the published initialisation would begin at zero output.
        control_dropout: share of samples that it was trained on without its control.
        max_given_views: most cameras whose whole videos it was trained to be given.
        **network: fields of its configuration to change; with ``condition_mask=False`` it makes
            video from text alone.

    Returns:
        The folder.
    """
    from nemo_cosmos.checkpoint.world.config import WorldConfig
    from nemo_cosmos.checkpoint.world.folder import save_world
    from nemo_cosmos.models.diffusion.build import build_network
    from nemo_cosmos.models.diffusion.controls import TokenizerFacts
    from nemo_cosmos.models.diffusion.process.conditioning import (
        ConditioningConfig,
        ViewConditioning,
    )
    from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
    from nemo_cosmos.models.diffusion.settings import DiffusionSettings
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel()
    torch.manual_seed(0)
    config = tiny_network(**network)
    given = 2 if config.condition_mask else 0
    conditioning = ConditioningConfig(max_condition_latents=given, control_dropout=control_dropout)
    views = ViewConditioning(max_given=max_given_views)
    process = DiffusionConfig(conditioning=conditioning, views=views)
    specs = tuple(ControlSpec(one) if isinstance(one, str) else one for one in controls)
    tokenizer = tiny_tokenizer()
    net = build_network(config, process, specs, TokenizerFacts.of(tokenizer.config))
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=std)
    encoder = {"kind": "embedded", "path": None, "max_length": 8, "dim": Clips.text_dim}
    world = WorldConfig(
        family="diffusion",
        model=DiffusionSettings(config.architecture(), process),
        text_encoder=dict(text_encoder or encoder),
        video={"num_frames": 9, "fps": 10.0, "height": 32, "width": 48},
        preset="tiny",
        controls=specs,
    )
    save_world(folder, net, world, tokenizer)
    return Path(folder)


AR_CODES, AR_LEVELS = 75, (5, 5, 3)
"""Codes of the tiny autoregressive world, and the levels of its tokenizer's channels."""


def tiny_ar_network(**changes: Any) -> ARConfig:
    """The configuration of an autoregressive transformer of two layers.

    Args:
        **changes: fields to change.
    """
    from nemo_cosmos.models.autoregressive.network.config import ARConfig

    fields: dict[str, Any] = {
        "num_layers": 2,
        "hidden_size": 48,
        "ffn_hidden_size": 40,
        "num_attention_heads": 4,
        "num_query_groups": 2,
        "vocab_size": AR_CODES,
        "max_frames": 3,
        "max_height": 4,
        "max_width": 6,
        "layer_spec": "local",
    }
    return ARConfig(**fields | changes)


def write_ar_world(
    folder: str | PathLike[str], *, controls: Sequence[str] = (), **network: object
) -> Path:
    """Write an autoregressive world of random weights: 9 frames of 32x48 pixels, without a text.

    Args:
        folder: a former one is replaced.
        controls: names of what steers it.
        **network: fields of its configuration to change.

    Returns:
        The folder.
    """
    from nemo_cosmos.checkpoint.world.config import WorldConfig
    from nemo_cosmos.checkpoint.world.folder import save_world
    from nemo_cosmos.models.autoregressive.build import build_network
    from nemo_cosmos.models.autoregressive.process.config import ARProcess
    from nemo_cosmos.models.autoregressive.settings import ARSettings
    from nemo_cosmos.models.common.control_dims import TokenizerFacts
    from nemo_cosmos.platform import ensure_model_parallel

    ensure_model_parallel()
    torch.manual_seed(0)
    config = tiny_ar_network(**network)
    specs = tuple(map(ControlSpec, controls))
    tokenizer = tiny_tokenizer("tokenizer_nano_dv4x8x8", fsq_levels=AR_LEVELS)
    net = build_network(config, specs, TokenizerFacts.of(tokenizer.config))
    for weight in net.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.15)
    world = WorldConfig(
        family="autoregressive",
        model=ARSettings(config.architecture(), ARProcess()),
        text_encoder={"kind": "embedded", "path": None, "max_length": 8, "dim": Clips.text_dim},
        video={"num_frames": 9, "fps": 10.0, "height": 32, "width": 48},
        preset="tiny",
        controls=specs,
    )
    save_world(folder, net, world, tokenizer)
    return Path(folder)
