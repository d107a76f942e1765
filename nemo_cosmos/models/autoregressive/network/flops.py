"""How many floating-point operations the autoregressive transformer takes, term by term.

A multiplication and an addition count as two, and only matrix products are counted, as for the
diffusion transformer. Training takes three times the forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nemo_cosmos.models.autoregressive.network.config import ARConfig


@dataclass(frozen=True)
class ARFlops:
    """Operations of one forward pass of a batch, by part of the network.

    Attributes:
        self_attention: scores and weighted sums among the tokens, in all layers.
        cross_attention: scores and weighted sums between the tokens and the text.
        projections: queries, keys, values and outputs of both attentions.
        mlp: the gated feed-forward networks.
        output: the scores of the codes.
    """

    self_attention: int
    cross_attention: int
    projections: int
    mlp: int
    output: int

    @property
    def forward(self) -> int:
        """The whole forward pass."""
        attention = self.self_attention + self.cross_attention
        return attention + self.projections + self.mlp + self.output

    @property
    def training(self) -> int:
        """Forward and backward pass, without recomputation."""
        return 3 * self.forward


def ar_flops(
    config: ARConfig, num_tokens: int, num_text_tokens: int = 0, batch_size: int = 1
) -> ARFlops:
    """Count a forward pass over whole sequences.

    With width E, heads of Q channels in all and keys of K, tokens L, text tokens M of width C,
    feed-forward width F, V codes and N layers, a sample costs:

    - self-attention: two products over half of the L x L pairs, ``2 L^2 Q``;
    - cross-attention: two products with M keys, ``4 L M Q``;
    - projections: queries and output ``4 L E Q``, keys and values ``4 L E K``; of the text again
      ``4 L E Q`` and ``4 M C K``;
    - feed-forward: three products, ``6 L E F``;
    - output: ``2 L E V``.

    Args:
        config: the network's configuration.
        num_tokens: tokens of a sample.
        num_text_tokens: tokens of its text, padding included, and of its controls; ignored by a
            model without either.
        batch_size: number of samples.
    """
    layers, width, ffn = config.num_layers, config.hidden_size, config.ffn_hidden_size or 0
    queries = config.num_attention_heads * config.head_dim
    keys = (config.num_query_groups or 1) * config.head_dim
    tokens, text = num_tokens, num_text_tokens if config.cross_channels else 0
    projections = 4 * tokens * width * (queries + keys)
    if config.cross_channels:
        projections += 4 * tokens * width * queries + 4 * text * config.cross_channels * keys
    return ARFlops(
        self_attention=batch_size * layers * 2 * tokens**2 * queries,
        cross_attention=batch_size * layers * 4 * tokens * text * queries,
        projections=batch_size * layers * projections,
        mlp=batch_size * layers * 6 * tokens * width * ffn,
        output=batch_size * 2 * tokens * width * config.num_outputs,
    )
