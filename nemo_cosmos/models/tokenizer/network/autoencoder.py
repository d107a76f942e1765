"""The network of every Cosmos tokenizer: encoder, (quantiser,) decoder.

Its state dict has the names of the reference's ``autoencoder.jit`` and ``model.pt``.

Shape suffixes: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nemo_cosmos.models.tokenizer.config import TokenizerConfig
from nemo_cosmos.models.tokenizer.network.fsq import FSQ
from nemo_cosmos.models.tokenizer.network.image_codec import ImageDecoder, ImageEncoder
from nemo_cosmos.models.tokenizer.network.layers3d import SpatialConv, fold_frames, unfold_frames
from nemo_cosmos.models.tokenizer.network.streaming import CausalCache
from nemo_cosmos.models.tokenizer.network.video_codec import VideoDecoder, VideoEncoder


class TokenizerNetwork(nn.Module):
    """Autoencoder between pixels in [-1, 1] and raw (not normalised) latents.

    Args:
        config: a preset of :data:`nemo_cosmos.models.tokenizer.presets.TOKENIZERS`, or another.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        z, codes = config.z_channels, config.code_channels
        if config.kind == "image":
            self.encoder: nn.Module = ImageEncoder(config)
            self.decoder: nn.Module = ImageDecoder(config)
            self.quant_conv: nn.Module = nn.Conv2d(z, codes, 1)
            self.post_quant_conv: nn.Module = nn.Conv2d(codes, z, 1)
        else:
            self.encoder, self.decoder = VideoEncoder(config), VideoDecoder(config)
            self.quant_conv = SpatialConv(z, codes, size=1)
            self.post_quant_conv = SpatialConv(codes, z, size=1)
        if config.discrete:
            self.quantizer = FSQ(config.fsq_levels)
        # Activations are channels-last; weights of the same layout need no copy at every call.
        is_image = config.kind == "image"
        layout = torch.channels_last if is_image else torch.channels_last_3d
        self.to(memory_format=layout)  # type: ignore[call-overload]

    def encode(self, video_BCTHW: Tensor, cache: CausalCache | None = None) -> Tensor:
        """Pixels to latents.

        Args:
            video_BCTHW: (B,3,1+f n,H,W) in [-1, 1]; H and W multiples of the spatial factor.
            cache: what a stream remembers, where the video is one chunk of it
                (:mod:`nemo_cosmos.models.tokenizer.network.streaming`).

        Returns:
            Latents (B,C,1+n,H/s,W/s), or int32 code indices (B,1+n,H/s,W/s) where discrete.

        Raises:
            WrongFrameCountError: the number of frames is not 1 + f n.
            WrongSizeError: a side is not a multiple of the spatial factor.
        """
        z = self._features(video_BCTHW, cache)
        return self.quantizer(z)[0] if self.config.discrete else z

    def decode(self, latents: Tensor, cache: CausalCache | None = None) -> Tensor:
        """Latents (or code indices) of any number of latent frames to pixels (B,3,T,H,W)."""
        if self.config.discrete:
            self.quantizer.check_indices(latents)
            codes = self.quantizer.codes_of(latents).movedim(-1, 1)
            latents = codes.to(next(self.parameters()).dtype)
        return self._pixels(latents, cache)

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        """Reconstruct a video; discrete networks pass gradients straight through the rounding."""
        z = self._features(video_BCTHW, None)
        return self._pixels(self.quantizer(z)[1] if self.config.discrete else z, None)

    def _features(self, video_BCTHW: Tensor, cache: CausalCache | None) -> Tensor:
        later_chunk = cache is not None and not cache.at_start
        self.config.check_video(tuple(video_BCTHW.shape), later_chunk=later_chunk)
        return self._apply_pointwise(self.quant_conv, self.encoder(video_BCTHW, cache))

    def _pixels(self, codes_BCTHW: Tensor, cache: CausalCache | None) -> Tensor:
        codes_BCTHW = codes_BCTHW.contiguous(memory_format=torch.channels_last_3d)
        return self.decoder(self._apply_pointwise(self.post_quant_conv, codes_BCTHW), cache)

    def _apply_pointwise(self, conv: nn.Module, x_BCTHW: Tensor) -> Tensor:
        """Apply a 1x1 convolution, which the reference holds as 2D for images."""
        if self.config.kind == "video":
            return conv(x_BCTHW)
        return unfold_frames(conv(fold_frames(x_BCTHW)), x_BCTHW.shape[0])
