"""Features of what a sentence means, by all-MiniLM-L6-v2 from a pinned package.

The encoder is MiniLM (Wang et al. 2020) as trained by sentence-transformers. Its last layer is made
for paraphrases; the features are the token means of four layers. It reads English; for other
languages see :mod:`~nemo_cosmos.perception.multilingual`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nemo_cosmos.assets import asset_path, asset_version
from nemo_cosmos.errors import CheckpointError, counted
from nemo_cosmos.perception.bert import BertEncoder, check_size

ASSET = "minilm_sentence_encoder"
MAX_TOKENS = 256
LAYERS = (3, 4, 5, 6)
LAYER_WIDTH = 384
FEATURE_SIZE = len(LAYERS) * LAYER_WIDTH


def load_sentence_encoder(folder: Path | None = None) -> BertEncoder:
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
    expected = LAYER_WIDTH, max(LAYERS)
    check_size(folder, config["hidden_size"], config["num_hidden_layers"], expected)
    weights = load_file(folder / "model.safetensors")
    misfits = [
        name
        for name, shape in _expected_shapes(config).items()
        if name not in weights or weights[name].shape != shape or weights[name].dtype != np.float32
    ]
    if misfits or config.get("hidden_act") != "gelu":
        raise CheckpointError(
            f"The sentence encoder in '{folder}' lacks {counted(len(misfits), 'weight')}, or is "
            "no BERT with GELU. Delete the folder; it is fetched again."
        )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return BertEncoder(
        weights, config["num_attention_heads"], config["layer_norm_eps"],
        lambda text: list(tokenizer.encode(text).ids), LAYERS, version,
    )  # fmt: skip


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
