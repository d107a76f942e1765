"""A BERT computed with numpy, and the features of texts that its layers give.

The networks used here are small, and importing torch takes longer than dozens of sentences.

The last layer of a sentence encoder is made for its own task; what a classifier needs is also in
the layers before it. The features of a text are therefore the token means of several layers, each
scaled to length one.

Shape suffixes: N texts, T tokens, D features, H heads, K features of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.errors import CheckpointError

#: Texts that are computed together; weights are read from memory once for all of them.
GROUP = 32


def check_size(place: Path, width: int, num_layers: int, expected: tuple[int, int]) -> None:
    """Require a sentence encoder of the size that its features are made for.

    Args:
        place: its file or folder, for the message.
        width: features of a token in each layer.
        num_layers: its layers.
        expected: the width and the layers that it must have.

    Raises:
        CheckpointError: it is another model.
    """
    if (width, num_layers) != expected:
        raise CheckpointError(
            f"The sentence encoder '{place}' has {num_layers} layers of width {width}, expected "
            f"{expected[1]} of {expected[0]}. Delete it; it is fetched again."
        )


class BertEncoder:
    """Turns texts into features; a text's never depend on the others but for rounding.

    Args:
        weights: a BERT's tensors by name, float32, with as many layers as ``layers`` needs.
        num_heads: its number of attention heads.
        norm_eps: what its layer norms add to the variance.
        tokenize: the numbers of a text's tokens.
        layers: numbers of the layers whose means are the features; the first layer is 1.
        version: the exact weights.
    """

    def __init__(
        self,
        weights: Mapping[str, Any],
        num_heads: int,
        norm_eps: float,
        tokenize: Callable[[str], list[int]],
        layers: Sequence[int],
        version: str,
    ) -> None:
        self._weights, self._num_heads, self._norm_eps = weights, num_heads, norm_eps
        self._tokenize, self._layers, self.version = tokenize, tuple(layers), version

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        """Features of the texts, float32 ``(N, layers * D)``."""
        groups = [texts[first : first + GROUP] for first in range(0, len(texts), GROUP)]
        return np.concatenate([self._encode(group) for group in groups])

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the features of a group of texts, whose tokens are computed in one matrix."""
        tokens = [self._tokenize(text) for text in texts]
        ends = np.cumsum([len(ids) for ids in tokens]).tolist()
        texts_T = [slice(end - len(ids), end) for ids, end in zip(tokens, ends, strict=True)]
        means_LND = []
        for layer, x_TD in enumerate(self._states(tokens, texts_T)):
            if layer in self._layers:
                means_ND = np.stack([x_TD[text].mean(0) for text in texts_T])
                means_LND.append(means_ND / np.linalg.norm(means_ND, axis=1, keepdims=True))
        features: NDArray[np.float32] = np.concatenate(means_LND, axis=1).astype(np.float32)
        return features

    def _states(
        self, tokens: list[list[int]], texts_T: list[slice]
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the states of all tokens ``(T, D)``: the embeddings, then each layer's."""
        w = self._weights
        x_TD = w["embeddings.word_embeddings.weight"][[token for ids in tokens for token in ids]]
        places_T = np.concatenate([np.arange(len(ids)) for ids in tokens])
        x_TD = x_TD + w["embeddings.position_embeddings.weight"][places_T]
        x_TD = x_TD + w["embeddings.token_type_embeddings.weight"][0]
        x_TD = self._norm(x_TD, "embeddings.LayerNorm")
        yield x_TD
        for layer in range(max(self._layers)):
            x_TD = self._layer(x_TD, texts_T, f"encoder.layer.{layer}")
            yield x_TD

    def _layer(
        self, x_TD: NDArray[np.float32], texts_T: list[slice], name: str
    ) -> NDArray[np.float32]:
        """Return the states after one transformer layer, which normalises after each part."""
        mixed_TD = self._dense(self._attend(x_TD, texts_T, name), f"{name}.attention.output.dense")
        x_TD = self._norm(x_TD + mixed_TD, f"{name}.attention.output.LayerNorm")
        wide = gelu(self._dense(x_TD, f"{name}.intermediate.dense"))
        return self._norm(
            x_TD + self._dense(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm"
        )

    def _attend(
        self, x_TD: NDArray[np.float32], texts_T: list[slice], name: str
    ) -> NDArray[np.float32]:
        """Return the attention of each text's tokens to the same text's."""
        qkv = [self._dense(x_TD, f"{name}.attention.self.{p}") for p in ("query", "key", "value")]
        mixed_TD = np.empty_like(x_TD)
        for text in texts_T:
            q_HTK, k_HTK, v_HTK = (
                part_TD[text].reshape(-1, self._num_heads, x_TD.shape[1] // self._num_heads)
                .transpose(1, 0, 2) for part_TD in qkv
            )  # fmt: skip
            scores_HTT = q_HTK @ k_HTK.transpose(0, 2, 1) / np.float32(q_HTK.shape[-1] ** 0.5)
            shares_HTT = np.exp(scores_HTT - scores_HTT.max(-1, keepdims=True))
            shares_HTT /= shares_HTT.sum(-1, keepdims=True)
            mixed_TD[text] = (shares_HTT @ v_HTK).transpose(1, 0, 2).reshape(-1, x_TD.shape[1])
        return mixed_TD

    def _dense(self, x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        y: NDArray[np.float32] = (
            x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        )
        return y

    def _norm(self, x_TD: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        centred_TD = x_TD - x_TD.mean(-1, keepdims=True)
        variance = np.square(centred_TD).mean(-1, keepdims=True)
        scaled_TD = centred_TD / np.sqrt(variance + np.float32(self._norm_eps))
        y: NDArray[np.float32] = scaled_TD * self._weights[f"{name}.weight"]
        return y + self._weights[f"{name}.bias"]


def gelu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``x`` times the normal distribution function of ``x``."""
    from scipy.special import erf

    y: NDArray[np.float32] = x * (erf(x * np.float32(0.5**0.5)) + np.float32(1)) * np.float32(0.5)
    return y
