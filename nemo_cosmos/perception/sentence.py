"""Features of what a sentence means, by all-MiniLM-L6-v2 from a pinned package.

The encoder is MiniLM (Wang et al. 2020) as trained by sentence-transformers. Its last layer is made
for paraphrases; what a classifier of harm needs is also in the layers before it. The features are
therefore the token means of four layers, each scaled to length one.

Shape suffixes: N texts, T tokens, D features.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nemo_cosmos.assets import asset_path, asset_version
from nemo_cosmos.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import BertModel

ASSET = "minilm_sentence_encoder"
MAX_TOKENS = 256
LAYERS = (3, 4, 5, 6)
LAYER_WIDTH = 384
FEATURE_SIZE = len(LAYERS) * LAYER_WIDTH


class SentenceEncoder:
    """Turns texts into features, one by one, so that a text's features never depend on others.

    Args:
        network: a BERT of :data:`LAYER_WIDTH` with at least as many layers as :data:`LAYERS` needs.
        tokenizer: its tokenizer, which truncates to :data:`MAX_TOKENS` and does not pad.
        version: the exact weights.
    """

    name = "all-MiniLM-L6-v2"

    def __init__(self, network: BertModel, tokenizer: Tokenizer, version: str) -> None:
        self._network, self._tokenizer, self.version = network, tokenizer, version

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        """Features of the texts, float32 ``(N, FEATURE_SIZE)``."""
        return np.stack([self._encode(text) for text in texts])

    def _encode(self, text: str) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            ids_1T = torch.tensor([self._tokenizer.encode(text).ids])
            states = self._network(input_ids=ids_1T, output_hidden_states=True).hidden_states
            means = [states[layer][0].mean(0) for layer in LAYERS]
            scaled = [mean / mean.norm() for mean in means]
            return np.asarray(torch.cat(scaled).numpy(), dtype=np.float32)


def load_sentence_encoder(folder: Path | None = None) -> SentenceEncoder:
    """The encoder with its weights, in evaluation mode.

    Args:
        folder: a folder with ``config.json``, ``model.safetensors`` and ``tokenizer.json``; by
            default the asset.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
        CheckpointError: the folder contains another model.
    """
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    version = asset_version(ASSET) if folder is None else f"folder '{folder}'"
    folder = folder if folder is not None else asset_path(ASSET)
    config = BertConfig.from_pretrained(folder, local_files_only=True)
    if (config.hidden_size, config.num_hidden_layers) != (LAYER_WIDTH, max(LAYERS)):
        raise CheckpointError(
            f"The sentence encoder in '{folder}' has {config.num_hidden_layers} layers of width "
            f"{config.hidden_size}, expected {max(LAYERS)} of {LAYER_WIDTH}. Delete the folder; it "
            "is fetched again."
        )
    network, loading = BertModel.from_pretrained(
        folder, config=config, local_files_only=True, use_safetensors=True,
        output_loading_info=True,
    )  # fmt: skip
    # Without this check transformers would fill missing weights with noise and only warn.
    if loading["missing_keys"] or loading["mismatched_keys"]:
        raise CheckpointError(
            f"The sentence encoder in '{folder}' lacks {len(loading['missing_keys'])} weights. "
            "Delete the folder; it is fetched again."
        )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return SentenceEncoder(network.eval(), tokenizer, version)
