"""How many floating-point operations the diffusion transformer takes, term by term.

A multiplication and an addition count as two. Only matrix products are counted, as is the custom:
normalisation, softmax, activation and rotary embedding are well under one per cent. Training takes
three times the forward pass (the gradients of inputs and of weights each cost one more), four times
with full recomputation of activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nemo_cosmos.models.diffusion.network.config import DiTConfig


@dataclass(frozen=True)
class DiTFlops:
    """Operations of one forward pass of a batch, by part of the network.

    Attributes:
        self_attention: scores and weighted sums among the video's tokens, in all layers.
        cross_attention: scores and weighted sums between the video's and the text's tokens.
        projections: queries, keys, values and outputs of both attentions.
        mlp: the feed-forward networks.
        modulation: noise-level embedding and modulation of every layer.
        ends: patch embedding and final layer.
    """

    self_attention: int
    cross_attention: int
    projections: int
    mlp: int
    modulation: int
    ends: int

    @property
    def forward(self) -> int:
        """The whole forward pass."""
        return (
            self.self_attention
            + self.cross_attention
            + self.projections
            + self.mlp
            + self.modulation
            + self.ends
        )

    @property
    def training(self) -> int:
        """Forward and backward pass, without recomputation."""
        return 3 * self.forward

    @property
    def recomputed_training(self) -> int:
        """Forward pass twice, as full recomputation of activations needs it, and backward pass."""
        return 4 * self.forward


def dit_flops(
    config: DiTConfig,
    latent_thw: tuple[int, int, int],
    num_text_tokens: int = 512,
    batch_size: int = 1,
    noise_levels: int = 1,
    num_texts: int = 1,
) -> DiTFlops:
    """Count a forward pass.

    With width E, tokens L, text tokens M of width C, feed-forward width F, modulation rank R and
    N layers, a sample costs:

    - self-attention scores ``Q K^T`` and sums ``P V``: 2 products of L x L x E each, ``4 L^2 E``;
    - cross-attention: the same with M keys, ``4 L M E``;
    - projections: self-attention's four, ``8 L E^2``; cross-attention's query and output,
      ``4 L E^2``, and its keys and values of the text, ``4 M C E``;
    - feed-forward: two products, ``4 L E F``;
    - modulation, per noise level: three maps E -> R -> 3E in a layer, ``3 (2 E R + 6 R E)``; the
      embedding's E -> E -> 3E and the final layer's E -> R -> 2E once;
    - ends: patches of K_in values to E and E to K_out values, ``2 L E (K_in + K_out)``.

    Args:
        config: the network's configuration.
        latent_thw: latent frames of all views, rows and columns.
        num_text_tokens: number of text tokens, padding included (it is attended to).
        batch_size: number of samples.
        noise_levels: number of noise levels a sample: 1, or the number of latent frames.
        num_texts: number of texts a sample: 1, or the number of views.

    Returns:
        The parts; ``.forward`` and ``.training`` are their sums. The 7B model at 121 frames of
        704x1280 (56,320 tokens) gives 2.2e15, two thirds of it self-attention.
    """
    frames, rows, columns = latent_thw
    tokens = frames * rows * columns // config.patch_volume
    width, ffn, rank = config.hidden_size, config.ffn_hidden_size, config.adaln_lora_dim
    layers, context = config.num_layers, config.crossattn_emb_channels
    text_projections = 4 * num_texts * num_text_tokens * context * width
    layer_modulation = 3 * (2 * width * rank + 2 * rank * 3 * width)
    once = 2 * width * width + 2 * width * 3 * width + 2 * width * rank + 2 * rank * 2 * width
    values_in = config.input_channels * config.patch_volume
    values_out = config.out_channels * config.patch_volume
    return DiTFlops(
        self_attention=batch_size * layers * 4 * tokens**2 * width,
        cross_attention=batch_size * layers * 4 * tokens * num_text_tokens * width,
        projections=batch_size * layers * (12 * tokens * width**2 + text_projections),
        mlp=batch_size * layers * 4 * tokens * width * ffn,
        modulation=batch_size * noise_levels * (layers * layer_modulation + once),
        ends=batch_size * 2 * tokens * width * (values_in + values_out),
    )
