"""The tokenizer as a NeMo model: what NeMo's MegatronStrategy trains.

Networks and losses need no NeMo; this class only gives them NeMo's hooks.

Shape suffixes: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import torch
from megatron.core import parallel_state
from megatron.core.enums import ModelType
from megatron.core.optimizer import OptimizerConfig
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from nemo import lightning as nl
from nemo.lightning.pytorch.optim import OptimizerModule
from torch import Tensor

from nemo_cosmos.batch import VideoBatch
from nemo_cosmos.errors import ConfigError, InputError, NumericsError
from nemo_cosmos.models.common.megatron.module import MegatronLightningModule
from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.flops import tokenizer_flops
from nemo_cosmos.models.tokenizer.latent_stats import compute_latent_stats
from nemo_cosmos.models.tokenizer.losses import COLOR_ONLY, LossConfig, TokenizerLosses
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.network.initialise import initialise
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.platform import default_device


class MegatronTokenizer(MegatronModule):
    """The network as Megatron-Core wants it: with a config, and able to shard its state.

    The network is called ``module``, as in Megatron's own wrappers, so that whatever unwraps them
    finds the network with its plain names.
    """

    def __init__(self, config: TransformerConfig, network: TokenizerNetwork) -> None:
        super().__init__(config)
        self.module = network
        # Megatron's schedules read the type, and number the micro-batches in the layers of a
        # "decoder"; without this they would find the tokenizer's decoder.
        self.model_type = ModelType.encoder_or_decoder
        self.decoder = SimpleNamespace(layers=())

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        """Reconstruct a video."""
        reconstruction_BCTHW: Tensor = self.module(video_BCTHW)
        return reconstruction_BCTHW

    def set_input_tensor(self, input_tensor: Any) -> None:
        """Tokenizers have a single pipeline stage, which takes no input from another."""


class TokenizerModel(MegatronLightningModule):
    """A tokenizer under NeMo's trainer, trained on ``batch["video"]``.

    Batches of images (one frame) and of videos may alternate. Tokenizers are small enough for one
    device, so they train data-parallel only.

    Args:
        config: the tokenizer's configuration, a preset or another.
        optim: the optimiser; by default the reference's Adam (1e-4, betas 0.5 and 0.999, weight
            decay 0.01).
        losses: the terms of the loss and their weights.
        stats_batches: number of training batches on which :meth:`export` measures latents.
    """

    def __init__(
        self,
        config: TokenizerConfig,
        optim: OptimizerModule | None = None,
        losses: LossConfig = COLOR_ONLY,
        stats_batches: int = 64,
    ) -> None:
        # The configuration that Megatron reads off every model: precision, parallelism, hooks.
        megatron = TransformerConfig(
            num_layers=1, hidden_size=config.channels, num_attention_heads=1
        )
        adam = OptimizerConfig(
            lr=1e-4,
            adam_beta1=0.5,
            adam_beta2=0.999,
            weight_decay=0.01,
            use_distributed_optimizer=True,
        )
        super().__init__(megatron, optim or nl.MegatronOptimizerModule(config=adam))
        self.tokenizer_config = config
        self.losses = TokenizerLosses(losses)
        self.stats_batches = stats_batches

    @classmethod
    def meta_step(
        cls, config: TokenizerConfig, clip_thw: tuple[int, int, int], dtype: torch.dtype
    ) -> tuple[TokenizerNetwork, Tensor]:
        """Return the network and one clip on torch's meta device, for the planner to count.

        Raises:
            WrongFrameCountError, WrongSizeError: the network does not take such a clip.
        """
        shape = (1, config.pixel_channels, *clip_thw)
        config.check_video(shape)
        with torch.device("meta"):
            return TokenizerNetwork(config).to(dtype), torch.empty(shape, dtype=dtype)

    def build(self, vp_stage: int | None) -> MegatronTokenizer:
        """Build and initialise the network.

        Raises:
            ConfigError: the strategy asks for tensor, pipeline or context parallelism.
        """
        _check_parallelism()
        network = TokenizerNetwork(self.tokenizer_config)
        initialise(network)
        return MegatronTokenizer(self.config, network)

    def data_step(self, dataloader_iter: Iterator[Any]) -> VideoBatch:
        """Take the next batch, check it and move its video to the device, in [-1, 1].

        Raises:
            InputError: the batch has no video.
            WrongFrameCountError: the number of frames is not 1 + f n.
            WrongSizeError: a side is not a multiple of the spatial factor.
            NumericsError: the video holds NaN or infinity.
        """
        batch: VideoBatch = self.next_batch(dataloader_iter)
        video_BCTHW = batch_video(batch, default_device())
        self.tokenizer_config.check_video(tuple(video_BCTHW.shape))
        return {**batch, "video": video_BCTHW}

    def forward_step(self, batch: VideoBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        terms = self.losses(
            self(batch["video"]), batch["video"], step=int(self.trainer.global_step)
        )
        for name, value in terms.items():
            self.log(f"loss/{name}", value.detach(), batch_size=len(batch["video"]))
        return torch.stack(list(terms.values())).sum()

    def validation_step(self, batch: VideoBatch, batch_idx: int | None = None) -> Tensor:
        """Return the mean absolute error of a batch and log its PSNR in dB.

        The validation loss leaves the other terms out, so that it compares across stages.
        """
        target = batch["video"]
        reconstruction = self(target).float().clamp(-1, 1)
        self.log("val_psnr", psnr_db(reconstruction, target), batch_size=len(target), on_epoch=True)
        return (reconstruction - target).abs().mean()

    def flops_and_tokens(self, batch: VideoBatch) -> tuple[float, int]:
        """Return the operations of a training step over a batch, and its latent positions."""
        batch_size, _, num_frames, height, width = batch["video"].shape
        config = self.tokenizer_config
        flops = tokenizer_flops(config, num_frames, height, width, batch_size)
        _, *latent_thw = config.latent_shape(num_frames, height, width)
        return float(flops.training), batch_size * math.prod(latent_thw)

    def export(self, folder: Path, data: pl.LightningDataModule) -> None:
        """Write a tokenizer folder with the present weights and measured latent statistics.

        Args:
            folder: replaced as a whole.
            data: the training data, on which a continuous tokenizer's latents are measured.
        """
        trained: TokenizerNetwork = self.network()
        network = TokenizerNetwork(self.tokenizer_config).to(default_device())
        network.load_state_dict(trained.state_dict())  # also leaves training precision behind
        stats = None
        if not self.tokenizer_config.discrete:
            batches = itertools.islice(self._stats_videos(data), self.stats_batches)
            stats = compute_latent_stats(network, batches)
        if self.trainer.is_global_zero:
            VideoTokenizer(network, stats).save(folder)

    def _stats_videos(self, data: pl.LightningDataModule) -> Iterator[Tensor]:
        """Training batches; a video tokenizer skips images, whose latents are all first frames."""
        for batch in data.train_dataloader():
            video_BCTHW = batch_video(batch, default_device())
            if video_BCTHW.shape[2] > 1 or self.tokenizer_config.kind == "image":
                yield video_BCTHW


def batch_video(batch: VideoBatch, device: torch.device) -> Tensor:
    """The float32 video of a batch in [-1, 1], from bytes or from floats that are already there.

    Raises:
        InputError: the batch has no video.
        NumericsError: the video holds NaN or infinity.
    """
    if "video" not in batch:
        raise InputError(
            f"A tokenizer trains on batch['video'], but the batch has {sorted(batch)}. Use a data "
            "module that yields pixels, not latents."
        )
    given_BCTHW: Tensor = batch["video"]
    video_BCTHW = given_BCTHW.to(device, non_blocking=True)
    if video_BCTHW.dtype == torch.uint8:
        return video_BCTHW.float() / 127.5 - 1
    # Looked at where it comes from: the host would wait for a look at the copy.
    if not given_BCTHW.isfinite().all():
        raise NumericsError(
            "The training video holds NaN or infinity; no step was taken. Look for the transform "
            "that made them, or remove the sample."
        )
    return video_BCTHW.float()


def psnr_db(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of each video's PSNR in dB; the range is [-1, 1], so its peak is 2."""
    mse_B = (reconstruction - target).square().flatten(1).mean(1)
    return (10 * torch.log10(4 / mse_B.clamp(min=1e-10))).mean()


def _check_parallelism() -> None:
    sizes = {
        "tensor_model": parallel_state.get_tensor_model_parallel_world_size(),
        "pipeline_model": parallel_state.get_pipeline_model_parallel_world_size(),
        "context": parallel_state.get_context_parallel_world_size(),
    }
    for name, size in sizes.items():
        if size > 1:
            raise ConfigError(
                f"The strategy has {name}_parallel_size={size}, but tokenizers train "
                "data-parallel only. Set it to 1 and use more devices for data parallelism."
            )
