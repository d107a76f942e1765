"""Numbers that say what a sentence is about: all-MiniLM-L6-v2, from a pinned package.

The encoder is Wang et al. 2020, "MiniLM", as trained by sentence-transformers. Its last layer alone
is made for paraphrases; what a classifier of harm needs also stands in the layers before, so the
features are the token means of four layers, each scaled to length one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import GuardrailError

MAX_TOKENS = 256
LAYERS = (3, 4, 5, 6)
LAYER_WIDTH = 384
FEATURE_SIZE = len(LAYERS) * LAYER_WIDTH


class SentenceEncoder:
    """Turns texts into features, one by one, so that a text's features never depend on others.

    Args:
        folder: a folder with ``config.json``, ``model.safetensors`` and ``tokenizer.json``; by
            default the asset ``minilm_sentence_encoder``.

    Raises:
        AssetError: the weights cannot be had.
        GuardrailError: the folder holds another model.
    """

    def __init__(self, folder: Path | None = None) -> None:
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel

        folder = folder if folder is not None else asset_path("minilm_sentence_encoder")
        config = BertConfig.from_pretrained(folder, local_files_only=True)
        if (config.hidden_size, config.num_hidden_layers) != (LAYER_WIDTH, max(LAYERS)):
            raise GuardrailError(
                f"The sentence encoder in '{folder}' has {config.num_hidden_layers} layers of "
                f"width {config.hidden_size}, expected {max(LAYERS)} of {LAYER_WIDTH}. Remove the "
                "folder; it is fetched again."
            )
        self._net, loading = BertModel.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True,
            output_loading_info=True,
        )  # fmt: skip
        if loading["missing_keys"] or loading["mismatched_keys"]:
            raise GuardrailError(
                f"The sentence encoder in '{folder}' lacks {len(loading['missing_keys'])} weights. "
                "Remove the folder; it is fetched again."
            )
        self._net.eval()
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Features of the texts, float32 ``(N, FEATURE_SIZE)``."""
        return np.stack([self._encode(text) for text in texts])

    def _encode(self, text: str) -> np.ndarray:
        import torch

        with torch.inference_mode():
            ids_BT = torch.tensor([self._tokenizer.encode(text).ids])
            states = self._net(input_ids=ids_BT, output_hidden_states=True).hidden_states
            means = [states[layer][0].mean(0) for layer in LAYERS]
            scaled = [mean / mean.norm() for mean in means]
            return torch.cat(scaled).numpy()
