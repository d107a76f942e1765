"""Features of what a sentence means, by all-MiniLM-L6-v2 from a pinned package.

The encoder is MiniLM (Wang et al. 2020) as trained by sentence-transformers. Its last layer is made
for paraphrases; what a classifier of harm needs is also in the layers before it. The features are
therefore the token means of four layers, each scaled to length one.

The network is small, and importing torch takes longer than a hundred sentences: it is computed with
numpy.

Shape suffixes: N texts, T tokens, D features, H heads, K features of a head.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.assets import asset_path, asset_version
from nemo_cosmos.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ASSET = "minilm_sentence_encoder"
MAX_TOKENS = 256
LAYERS = (3, 4, 5, 6)
LAYER_WIDTH = 384
FEATURE_SIZE = len(LAYERS) * LAYER_WIDTH


class SentenceEncoder:
    """Turns texts into features, one by one, so that a text's features never depend on others.

    Args:
        weights: a BERT's tensors by name, float32, with as many layers as :data:`LAYERS` needs.
        num_heads: its number of attention heads.
        norm_eps: what its layer norms add to the variance.
        tokenizer: its tokenizer, which truncates to :data:`MAX_TOKENS` and does not pad.
        version: the exact weights.
    """

    name = "all-MiniLM-L6-v2"

    def __init__(
        self,
        weights: Mapping[str, NDArray[np.float32]],
        num_heads: int,
        norm_eps: float,
        tokenizer: Tokenizer,
        version: str,
    ) -> None:
        self._weights, self._num_heads, self._norm_eps = weights, num_heads, norm_eps
        self._tokenizer, self.version = tokenizer, version

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        """Features of the texts, float32 ``(N, FEATURE_SIZE)``."""
        return np.stack([self._encode(text) for text in texts])

    def _encode(self, text: str) -> NDArray[np.float32]:
        states = self._states(self._tokenizer.encode(text).ids)
        means = [states[layer].mean(0) for layer in LAYERS]
        return np.concatenate([mean / np.linalg.norm(mean) for mean in means]).astype(np.float32)

    def _states(self, ids: list[int]) -> list[NDArray[np.float32]]:
        """Return the states of the tokens ``(T, D)``, first the embeddings, then of each layer."""
        w = self._weights
        x_TD = w["embeddings.word_embeddings.weight"][ids]
        x_TD = x_TD + w["embeddings.position_embeddings.weight"][: len(ids)]
        x_TD = x_TD + w["embeddings.token_type_embeddings.weight"][0]
        states = [self._norm(x_TD, "embeddings.LayerNorm")]
        for layer in range(max(LAYERS)):
            states.append(self._layer(states[-1], f"encoder.layer.{layer}"))
        return states

    def _layer(self, x_TD: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        """Return the states after one transformer layer, which normalises after each part."""
        mixed_TD = self._dense(self._attend(x_TD, name), f"{name}.attention.output.dense")
        x_TD = self._norm(x_TD + mixed_TD, f"{name}.attention.output.LayerNorm")
        wide = gelu(self._dense(x_TD, f"{name}.intermediate.dense"))
        return self._norm(
            x_TD + self._dense(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm"
        )

    def _attend(self, x_TD: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        num_tokens = len(x_TD)
        q_HTK, k_HTK, v_HTK = (
            self._dense(x_TD, f"{name}.attention.self.{part}")
            .reshape(num_tokens, self._num_heads, -1)
            .transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores_HTT = q_HTK @ k_HTK.transpose(0, 2, 1) / np.float32(q_HTK.shape[-1] ** 0.5)
        shares_HTT = np.exp(scores_HTT - scores_HTT.max(-1, keepdims=True))
        shares_HTT /= shares_HTT.sum(-1, keepdims=True)
        return (shares_HTT @ v_HTK).transpose(1, 0, 2).reshape(num_tokens, -1)

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


def load_sentence_encoder(folder: Path | None = None) -> SentenceEncoder:
    """The encoder with its weights.

    Args:
        folder: a folder with ``config.json``, ``model.safetensors`` and ``tokenizer.json``; by
            default the asset.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
        CheckpointError: the folder contains another model.
    """
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    version = asset_version(ASSET) if folder is None else f"folder '{folder}'"
    folder = folder if folder is not None else asset_path(ASSET)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if (config["hidden_size"], config["num_hidden_layers"]) != (LAYER_WIDTH, max(LAYERS)):
        raise CheckpointError(
            f"The sentence encoder in '{folder}' has {config['num_hidden_layers']} layers of width "
            f"{config['hidden_size']}, expected {max(LAYERS)} of {LAYER_WIDTH}. Delete the folder; "
            "it is fetched again."
        )
    weights = load_file(folder / "model.safetensors")
    misfits = [
        name
        for name, shape in _expected_shapes(config).items()
        if name not in weights or weights[name].shape != shape or weights[name].dtype != np.float32
    ]
    if misfits or config.get("hidden_act") != "gelu":
        raise CheckpointError(
            f"The sentence encoder in '{folder}' lacks {len(misfits)} weights, or is no BERT with "
            "GELU. Delete the folder; it is fetched again."
        )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return SentenceEncoder(
        weights, config["num_attention_heads"], config["layer_norm_eps"], tokenizer, version
    )


def _expected_shapes(config: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that the encoder reads, by name."""
    width, wide = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], width),
    }
    norms = ["embeddings.LayerNorm"]
    dense: dict[str, tuple[int, ...]] = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
        square = ("attention.self.query", "attention.self.key", "attention.self.value")
        dense |= {f"{name}.{part}": (width, width) for part in square}
        dense[f"{name}.attention.output.dense"] = (width, width)
        dense[f"{name}.intermediate.dense"] = (wide, width)
        dense[f"{name}.output.dense"] = (width, wide)
    for name in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for name, shape in dense.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes
